"""Batches, several clients, actors that are gone, and what the town refuses."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import carla
import numpy as np
import recording
from session import PORT, another_client, attach, check, pixels, refused, run, spawn_car, speed, stepped, straights


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


def not_in_the_town(why: str, action: Callable[[], Any]) -> None:
    """The town refuses this, and says why."""
    message = refused(action)
    assert why in message, message
    recording.remark(recording.REFUSED)


def only_logged(action: Callable[[], Any]) -> None:
    """A refusal that no client waits for."""
    action()
    recording.remark(recording.LOGGED)


def without_effect(action: Callable[[], Any]) -> None:
    """Accepted, so that programs go on."""
    action()
    recording.remark(recording.NO_EFFECT)


@check
def every_command(client: carla.Client) -> None:
    command = carla.command
    with stepped(client) as world:
        library = world.get_blueprint_library()
        car = spawn_car(world)
        place = straights(world)[1]
        place.location.z += 1.0
        walker = world.spawn_actor(library.find("walker.pedestrian.0001"), place)
        world.tick()
        turned = carla.Transform(place.location, carla.Rotation(yaw=77.0))
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


@check
def recorder_calls(client: carla.Client) -> None:
    assert "does not record" in client.start_recorder("run.log", True)
    recording.remark(recording.NO_EFFECT)
    without_effect(client.stop_recorder)
    why = "no recorder"
    not_in_the_town(why, lambda: client.show_recorder_file_info("run.log", True))
    not_in_the_town(why, lambda: client.show_recorder_collisions("run.log", "a", "a"))
    not_in_the_town(why, lambda: client.show_recorder_actors_blocked("run.log", 10, 10))
    not_in_the_town(why, lambda: client.replay_file("run.log", 0, 0, 0))
    without_effect(lambda: client.stop_replayer(False))
    without_effect(lambda: client.set_replayer_time_factor(1.0))
    without_effect(lambda: client.set_replayer_ignore_hero(True))
    without_effect(lambda: client.set_replayer_ignore_spectator(True))


@check
def what_is_not_in_the_town(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        place = straights(world)[1]
        place.location.z += 1.0
        walker = world.spawn_actor(world.get_blueprint_library().find("walker.pedestrian.0001"), place)
        camera = world.spawn_actor(world.get_blueprint_library().find("sensor.camera.rgb"), carla.Transform(), attach_to=car)
        world.tick()
        wheel, picture, floats = carla.VehicleWheelLocation.FL_Wheel, carla.TextureColor(2, 2), carla.TextureFloatColor(2, 2)
        diffuse, scene = carla.MaterialParameter.Diffuse, carla.GBufferTextureID.SceneColor
        not_in_the_town("G-buffers", lambda: camera.enable_gbuffers(True))
        not_in_the_town("G-buffers", lambda: camera.listen_to_gbuffer(scene, print))
        not_in_the_town("textures", lambda: world.apply_color_texture_to_object("a", diffuse, picture))
        not_in_the_town("textures", lambda: world.apply_color_texture_to_objects(["a"], diffuse, picture))
        not_in_the_town("textures", lambda: world.apply_float_color_texture_to_object("a", diffuse, floats))
        not_in_the_town("textures", lambda: world.apply_float_color_texture_to_objects(["a"], diffuse, floats))
        not_in_the_town("textures", lambda: world.apply_textures_to_object("a", picture, floats, floats, floats))
        not_in_the_town("textures", lambda: world.apply_textures_to_objects(["a"], picture, floats, floats, floats))
        not_in_the_town("no components", lambda: car.get_component_world_transform("Wheel"))
        not_in_the_town("no components", lambda: car.get_component_relative_transform("Wheel"))
        assert camera.is_enabled_for_ros() is False
        assert car.get_component_names() == car.get_bone_names() == car.get_socket_names() == []
        assert car.get_bone_world_transforms() == car.get_bone_relative_transforms() == []
        assert car.get_socket_world_transforms() == car.get_socket_relative_transforms() == []
        assert len(car.get_vehicle_bone_world_transforms()) == 0
        assert len(walker.get_bones().bone_transforms) == 0
        assert car.get_wheel_pitch_angle(wheel) == 0.0
        assert car.get_failure_state() == carla.VehicleFailureState.NONE
        only_logged(lambda: camera.enable_for_ros())
        only_logged(lambda: car.enable_carsim("a.sim"))
        only_logged(lambda: car.use_carsim_road(True))
        only_logged(lambda: car.enable_chrono_physics(10, 0.01, "", "", "", ""))
        only_logged(lambda: car.set_wheel_pitch_angle(wheel, 10.0))
        only_logged(lambda: world.set_imui_sensor_gravity(3.0))
        only_logged(lambda: world.enable_environment_objects({20_001}, False))
        for each in (
            lambda: camera.disable_for_ros(), lambda: car.restore_physx_physics(),
            lambda: car.set_wheel_steer_direction(wheel, 10.0), lambda: car.open_door(carla.VehicleDoor.FL),
            lambda: car.close_door(carla.VehicleDoor.FL), lambda: car.show_debug_telemetry(False),
            lambda: car.apply_ackermann_controller_settings(carla.AckermannControllerSettings()),
            lambda: walker.set_bones(carla.WalkerBoneControlIn()), lambda: walker.blend_pose(0.5), lambda: walker.show_pose(),
            lambda: walker.hide_pose(), lambda: walker.get_pose_from_animation(),
            lambda: world.load_map_layer(carla.MapLayer.Buildings), lambda: world.unload_map_layer(carla.MapLayer.Buildings),
            lambda: world.set_annotations_traverse_translucency(True),
            lambda: world.debug.draw_point(carla.Location()), lambda: world.debug.draw_line(carla.Location(), carla.Location()),
            lambda: world.debug.draw_arrow(carla.Location(), carla.Location()),
            lambda: world.debug.draw_string(carla.Location(), "a"),
            lambda: world.debug.draw_box(carla.BoundingBox(carla.Location(), carla.Vector3D(1, 1, 1)), carla.Rotation()),
            lambda: world.debug.draw_hud_point(carla.Location()), lambda: world.debug.clear_debug_shape(),
            lambda: world.debug.clear_debug_string(), lambda: world.get_lightmanager().set_day_night_cycle(True),
        ):  # fmt: skip
            without_effect(each)
        assert world.get_imui_sensor_gravity() == np.float32(9.81)
        assert world.get_lightmanager().get_all_lights() == []
        world.tick()
        assert car.is_alive


@check
def the_rest_of_the_world(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        world.tick()
        assert world.get_vehicles_light_states() == {car.id: carla.VehicleLightState.NONE}
        assert "crossing" in " ".join(world.get_names_of_all_objects()) or len(world.get_names_of_all_objects()) > 10
        light = world.get_actors().filter("traffic.traffic_light")[0]
        assert world.get_traffic_light_from_opendrive_id(light.get_opendrive_id()).id == light.id
        assert light.get_affected_lane_waypoints()
        assert light.get_pole_index() >= 0
        assert light.get_light_boxes() == []
        light.reset_group()
        world.reset_all_traffic_lights()
        world.freeze_all_traffic_lights(True)
        world.tick()
        assert light.is_frozen()
        world.freeze_all_traffic_lights(False)
        stop = light.get_stop_waypoints()[0]
        junction = next(
            place for metres in (5.0, 10.0, 15.0) for place in stop.next(metres) if place.is_junction
        ).get_junction()
        assert light.id in [other.id for other in world.get_traffic_lights_in_junction(junction.id)]
        assert light.id in [other.id for other in world.get_traffic_lights_from_waypoint(stop, 60.0)]
        assert client.load_world_if_different("Grid01") is None
        assert client.get_required_files("Nav", False)
        mass = car.get_physics_control().mass
        car.set_enable_gravity(False)
        car.set_location(car.get_location() + carla.Location(z=5.0))
        run(world, 1.0)
        assert car.get_location().z > 4.0, "weightless"
        car.set_enable_gravity(True)
        run(world, 2.0)
        assert car.get_location().z < 0.5
        forward = car.get_transform().get_forward_vector()
        car.add_force(forward * mass * 10.0)
        world.tick()
        assert speed(car) > 0.2, "a force of 10 m/s2 for one tick"
        car.add_torque(carla.Vector3D(0.0, 0.0, mass * 60.0))
        world.tick()
        assert abs(car.get_angular_velocity().z) > 0.5
        car.add_angular_impulse(carla.Vector3D(0.0, 0.0, mass))
        car.set_target_angular_velocity(carla.Vector3D(0.0, 0.0, 0.0))
        world.tick()
        assert car.get_ackermann_controller_settings().speed_kp > 0


@check
def cameras_ignore_vehicles(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        pose = straights(world)[0]
        pose.location += pose.get_forward_vector() * 9.0
        other = world.spawn_actor(world.get_blueprint_library().find("vehicle.audi.tt"), pose)
        front = carla.Transform(carla.Location(x=2.6, z=1.2))
        size = {"image_size_x": 120, "image_size_y": 80}
        camera, images = attach(world, car, "sensor.camera.instance_segmentation", front, **size)
        second, unchanged = attach(world, car, "sensor.camera.instance_segmentation", front, **size)
        for ignored in ([], [other.id], []):
            camera.set_ignored_vehicles(ignored)
            world.tick()
            seen, all_seen = (pixels(queue.get(timeout=10)) for queue in (images, unchanged))
            count = (seen[..., 1] + 256 * seen[..., 0].astype(int) == other.id).sum()
            assert (count == 0) == bool(ignored)
            assert (all_seen[..., 1] + 256 * all_seen[..., 0].astype(int) == other.id).sum() > 50
        camera.stop()
        second.stop()


@check
def several_egos(client: carla.Client) -> None:
    with stepped(client) as world:
        clients = [another_client() for _ in range(3)]
        fleet = []
        for index, each in enumerate(clients):
            place = each.get_world()
            car = place.spawn_actor(place.get_blueprint_library().find("vehicle.audi.a2"), straights(place)[index])
            camera, images = attach(
                place, car, "sensor.camera.rgb", carla.Transform(carla.Location(z=2)), image_size_x=64, image_size_y=48
            )
            imu, motion = attach(place, car, "sensor.other.imu")
            fleet.append((car, (camera, imu), images, motion))
        for _ in range(10):
            for index, (car, *_) in enumerate(fleet):
                car.apply_control(carla.VehicleControl(throttle=0.3 + 0.3 * index))
            frame = world.tick()
            for _, _, images, motion in fleet:
                assert images.get(timeout=10).frame == frame
                assert motion.get(timeout=10).frame == frame
        speeds = [speed(car) for car, *_ in fleet]
        assert speeds == sorted(speeds)
        assert speeds[0] < speeds[2]
        for _, sensors, *_ in fleet:
            for sensor in sensors:
                sensor.stop()


@check
def a_client_that_is_killed(client: carla.Client) -> None:
    code = f"""
import carla, queue
client = carla.Client("127.0.0.1", {PORT})
client.set_timeout(20)
world = client.get_world()
blueprint = world.get_blueprint_library().find("sensor.camera.rgb")
camera = world.spawn_actor(blueprint, carla.Transform(carla.Location(z=30), carla.Rotation(pitch=-90)))
images = queue.Queue()
camera.listen(images.put)
print(camera.id, flush=True)
while True:
    images.get()
"""
    with stepped(client) as world:
        car = spawn_car(world)
        sensor, data = attach(world, car, "sensor.other.imu")
        victim = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert victim.stdout
        camera = int(victim.stdout.readline())
        for tick in range(40):
            if tick == 15:
                os.kill(victim.pid, signal.SIGKILL)
            frame = world.tick()
            assert data.get(timeout=10).frame == frame
        victim.wait()
        victim.stdout.close()
        actor = world.get_actors().find(camera)
        assert actor is not None, "what a dead client has spawned stays, as in CARLA"
        assert math.isfinite(speed(car))
        sensor.stop()
