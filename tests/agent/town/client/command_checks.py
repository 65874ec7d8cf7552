"""Batches: every command that the client can send, and what comes back."""

import carla
from session import check, run, spawn_car, spawn_walker, speed, stepped, straights


@check
def batches(client: carla.Client) -> None:
    command = carla.command
    with stepped(client) as world:
        library, points = world.get_blueprint_library(), straights(world)
        car = library.find("vehicle.tesla.model3")
        spawn = [
            command.SpawnActor(car, points[0]).then(
                command.ApplyVehicleControl(command.FutureActor, carla.VehicleControl(throttle=1.0))
            ),
            command.SpawnActor(car, points[0]),
            command.SpawnActor(library.find("static.prop.trafficcone01"), points[1]),
        ]
        answers = client.apply_batch_sync(spawn, True)
        assert not answers[0].has_error()
        assert "collision" in answers[1].error
        assert not answers[2].has_error()
        id_ = answers[0].actor_id
        run(world, 1.5)
        assert speed(world.get_actor(id_)) > 1.0
        vector = carla.Vector3D(1.0, 0.0, 0.0)
        everything = [
            command.ApplyVehicleControl(id_, carla.VehicleControl(brake=1.0)),
            command.ApplyTransform(id_, points[2]),
            command.ApplyTargetVelocity(id_, vector),
            command.ApplyTargetAngularVelocity(id_, vector),
            command.ApplyImpulse(id_, vector),
            command.ApplyForce(id_, vector),
            command.ApplyAngularImpulse(id_, vector),
            command.ApplyTorque(id_, vector),
            command.SetSimulatePhysics(id_, True),
            command.SetEnableGravity(id_, True),
            command.SetVehicleLightState(id_, carla.VehicleLightState.Brake),
            command.ApplyVehiclePhysicsControl(id_, world.get_actor(id_).get_physics_control()),
            command.ApplyVehicleAckermannControl(id_, carla.VehicleAckermannControl()),
        ]
        answers = client.apply_batch_sync(everything, False)
        assert [answer.error for answer in answers if answer.has_error()] == []
        world.tick()
        assert world.get_actor(id_).get_location().distance(points[2].location) < 1.5
        gone = client.apply_batch_sync([command.DestroyActor(id_), command.DestroyActor(id_)], True)
        assert [answer.has_error() for answer in gone] == [False, True]


@check
def every_command(client: carla.Client) -> None:
    command = carla.command
    with stepped(client) as world:
        library = world.get_blueprint_library()
        car = spawn_car(world)
        walker = spawn_walker(world, straights(world)[1])
        world.tick()
        turned = carla.Transform(walker.get_location(), carla.Rotation(yaw=77.0))
        vector, target = carla.Vector3D(0.0, 0.0, 0.0), straights(world)[2]
        commands = [
            command.SpawnActor(library.find("static.prop.trafficcone01"), straights(world)[3]),
            command.ApplyVehicleControl(car, carla.VehicleControl(throttle=0.25)),
            command.ApplyVehicleAckermannControl(car, carla.VehicleAckermannControl(speed=1.0)),
            command.ApplyVehiclePhysicsControl(car, car.get_physics_control()),
            command.ApplyWalkerControl(walker, carla.WalkerControl(carla.Vector3D(1, 0, 0), 1.0)),
            command.ApplyWalkerState(walker, turned, 0.0),
            command.ApplyTransform(car, target),
            command.ApplyTargetVelocity(car, vector),
            command.ApplyTargetAngularVelocity(car, vector),
            command.ApplyImpulse(car, vector),
            command.ApplyForce(car, vector),
            command.ApplyAngularImpulse(car, vector),
            command.ApplyTorque(car, vector),
            command.SetSimulatePhysics(car, True),
            command.SetEnableGravity(car, True),
            command.SetAutopilot(car, False),
            command.SetVehicleLightState(car.id, carla.VehicleLightState.Fog),
            command.DestroyActor(10**6),
        ]
        tried = {type(each).__name__ for each in commands}
        known = {name for name, value in vars(command).items() if isinstance(value, type)}
        # The client of 0.9.16 has no converter for ShowDebugTelemetry: it cannot be sent.
        assert known - tried <= {"Response", "FutureActor", "ShowDebugTelemetry"}, known - tried
        answers = client.apply_batch_sync(commands, False)
        failed = [(type(each).__name__, answer.error) for each, answer in zip(commands, answers, strict=True) if answer.error]
        assert [name for name, _ in failed] == ["DestroyActor"], failed
        assert "not found" in failed[0][1]
        world.tick()
        assert car.get_location().distance(target.location) < 1.0
        assert car.get_light_state() == carla.VehicleLightState.Fog
        assert abs(walker.get_transform().rotation.yaw - 77.0) < 0.01
        assert world.get_actor(answers[0].actor_id).type_id == "static.prop.trafficcone01"
        wrong = client.apply_batch_sync([command.ApplyVehicleControl(walker, carla.VehicleControl())], False)
        assert "not a vehicle" in wrong[0].error
        client.apply_batch([command.DestroyActor(answers[0].actor_id)], True)  # ticks, and nobody waits
        world.tick()
        assert world.get_actors().find(answers[0].actor_id) is None
