"""Batches, several clients, actors that are gone."""

import time

import carla
from session import another_client, attach, check, run, spawn_car, speed, stepped, straights


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
def destroyed_actors(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        sensor, _ = attach(world, car, "sensor.other.imu")
        world.tick()
        box = car.bounding_box.extent.x
        assert car.destroy() is True
        world.tick()
        assert sensor.id not in [actor.id for actor in world.get_actors()], "what rides on it goes too"
        car.apply_control(carla.VehicleControl(throttle=1.0)) if car.is_alive else None
        assert another_client().get_world().get_actors().find(car.id) is None
        assert box > 2


@check
def two_clients(client: carla.Client) -> None:
    with stepped(client) as world:
        second = another_client()
        elsewhere = second.get_world()
        car = spawn_car(world)
        other = elsewhere.spawn_actor(elsewhere.get_blueprint_library().find("vehicle.audi.tt"), straights(elsewhere)[1])
        world.tick()
        time.sleep(0.2)
        assert {actor.id for actor in elsewhere.get_actors().filter("vehicle.*")} == {car.id, other.id}
        other.apply_control(carla.VehicleControl(throttle=1.0))
        run(world, 1.5)
        assert speed(world.get_actor(other.id)) > 1.0
