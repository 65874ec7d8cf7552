"""Cameras, inertial sensors, lane invasion and collisions."""

import math
import queue
import time
from typing import Any

import carla
import numpy as np
from session import ahead, attach, check, depth_m, pixels, run, spawn_car, spawn_walker, speed, stepped, straights


@check
def frames_of_the_tick(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        pose = carla.Transform(carla.Location(x=1.5, z=2.0), carla.Rotation(pitch=-5.0))
        kinds = ("rgb", "semantic_segmentation", "depth", "instance_segmentation")
        for attempt in range(3):  # the first frame after listen() is the one that is easily lost
            cameras = [
                attach(world, car, f"sensor.camera.{kind}", pose, image_size_x=256, image_size_y=128, fov=100) for kind in kinds
            ]
            for _ in range(10 if attempt == 0 else 1):
                frame = world.tick()
                images = [data.get(timeout=5.0) for _, data in cameras]
                assert all(image.frame == frame for image in images)
                assert all((image.width, image.height, round(image.fov)) == (256, 128, 100) for image in images)
            if attempt == 0:
                rgb, tags, _, instances = (pixels(image) for image in images)
                assert rgb.std() > 10
                assert {1, 11, 24} <= set(np.unique(tags[..., 2])), "roads, sky and road lines"
                assert tags[..., :2].max() == 0
                assert (tags[..., 2] == instances[..., 2]).all()
                metres = depth_m(images[2])
                assert (metres[tags[..., 2] == 11] > 990).all()
                below = metres[-1, 120:136]
                assert ((below > 1.0) & (below < 8.0)).all()
                images[1].convert(carla.ColorConverter.CityScapesPalette)
                road = pixels(images[1])[tags[..., 2] == 1][:, 2::-1]
                assert (road == (128, 64, 128)).all()
            for sensor, _ in cameras:
                sensor.stop()
                sensor.destroy()


@check
def slow_fixed_and_large_cameras(client: carla.Client) -> None:
    with stepped(client) as world:
        above = carla.Transform(carla.Location(0, 0, 40), carla.Rotation(pitch=-90))
        fixed, looking = attach(world, None, "sensor.camera.semantic_segmentation", above, image_size_x=200, image_size_y=150)
        slow, pictures = attach(world, None, "sensor.camera.rgb", above, image_size_x=64, image_size_y=32, sensor_tick=0.2)
        large, big = attach(world, None, "sensor.camera.rgb", above, image_size_x=1920, image_size_y=1080)
        run(world, 1.0)
        assert looking.qsize() == 20
        assert pictures.qsize() == 5
        assert big.get(timeout=5.0).width == 1920
        settings = world.get_settings()
        settings.no_rendering_mode = True
        world.apply_settings(settings)
        time.sleep(0.2)
        count = looking.qsize()
        world.tick()
        time.sleep(0.2)
        assert looking.qsize() == count, "no rendering, no frames"
        settings.no_rendering_mode = False
        world.apply_settings(settings)
        for sensor in (fixed, slow, large):
            sensor.stop()


@check
def inertia_and_position(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        imu, motion = attach(world, car, "sensor.other.imu")
        gnss, places = attach(world, car, "sensor.other.gnss")
        run(world, 1.5)
        rest, place = last(motion), last(places)
        assert abs(rest.accelerometer.z - 9.81) < 0.1
        assert abs(rest.accelerometer.x) < 0.1
        agrees(world, car.get_location(), place)
        for _ in range(2):
            north = (car.get_transform().rotation.yaw + 90.0) % 360
            assert abs((math.degrees(last(motion, rest).compass) - north + 180) % 360 - 180) < 0.5
            pose = car.get_transform()
            pose.rotation.yaw += 100.0
            car.set_transform(pose)
            world.tick()
        car.set_transform(straights(world)[0])
        car.apply_control(carla.VehicleControl(throttle=1.0))
        run(world, 1.0)
        assert last(motion).accelerometer.x > 1.5
        for steer in (0.4, -0.4):
            car.apply_control(carla.VehicleControl(throttle=0.3, steer=steer))
            run(world, 0.5)
            turn = last(motion)
            assert turn.gyroscope.z * steer > 0, "turning right is positive"
            assert abs(turn.gyroscope.z - math.radians(car.get_angular_velocity().z)) < 0.02, "radians a second"
            assert turn.accelerometer.y * steer > 0, "the seat pushes to the inside of the curve"
        # A receiver anywhere: it agrees with the client's own map, also on which way latitude grows.
        pole, far = attach(world, None, "sensor.other.gnss")
        for x, y, z in ((0, 0, 0), (150, 0, 2), (0, 150, 5), (-90, -390, 40)):
            pole.set_transform(carla.Transform(carla.Location(x, y, z)))
            world.tick()
            agrees(world, carla.Location(x, y, z), last(far))
        for sensor in (imu, gnss, pole):
            sensor.stop()


def last(data: queue.Queue[Any], otherwise: Any = None) -> Any:
    """The newest measurement (`otherwise` when none is new)."""
    if otherwise is not None and data.empty():
        return otherwise
    newest = data.get(timeout=5)
    while not data.empty():
        newest = data.get()
    return newest


def agrees(world: carla.World, location: carla.Location, measured: carla.GnssMeasurement) -> None:
    expected = world.get_map().transform_to_geolocation(location)
    assert abs(measured.latitude - expected.latitude) < 1e-7
    assert abs(measured.longitude - expected.longitude) < 1e-7
    assert abs(measured.altitude - expected.altitude) < 1e-3


@check
def lane_invasion(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        sensor, events = attach(world, car, "sensor.other.lane_invasion")
        run(world, 0.5)
        car.set_target_velocity(car.get_transform().get_forward_vector() * 6.0)
        car.apply_control(carla.VehicleControl(throttle=0.4, steer=-0.12))
        run(world, 1.5)
        event = events.get(timeout=5)
        assert len(event.crossed_lane_markings) >= 1
        sensor.stop()


@check
def collisions_between_cars(client: carla.Client) -> None:
    with stepped(client) as world:
        rear = spawn_car(world)
        front_pose = ahead(straights(world)[0], 8.0)
        front = world.spawn_actor(world.get_blueprint_library().find("vehicle.tesla.model3"), front_pose)
        run(world, 0.5)
        first, hits = attach(world, rear, "sensor.other.collision")
        second, other_hits = attach(world, front, "sensor.other.collision")
        rear.set_target_velocity(rear.get_transform().get_forward_vector() * 8.0)
        run(world, 2.0)
        event, mirrored = hits.get(timeout=5), other_hits.get(timeout=5)
        assert event.actor.id == rear.id
        assert event.other_actor.id == front.id
        assert mirrored.other_actor.id == rear.id
        masses = [actor.get_physics_control().mass for actor in (rear, front)]
        expected = 1.12 * 8.0 / (1 / masses[0] + 1 / masses[1])  # a plastic blow with a little bounce
        assert 0.85 * expected < event.normal_impulse.length() < 1.05 * expected, (str(event.normal_impulse), expected)
        assert event.normal_impulse.dot(rear.get_transform().get_forward_vector()) < 0
        assert (event.normal_impulse + mirrored.normal_impulse).length() < 1.0
        assert speed(front) > 1.0
        box_gap = front.get_location().distance(rear.get_location()) - rear.bounding_box.extent.x - front.bounding_box.extent.x
        assert box_gap > -0.2, "bodies do not sink into each other"
        first.stop()
        second.stop()


@check
def collisions_with_people_and_houses(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        sensor, hits = attach(world, car, "sensor.other.collision")
        walker = spawn_walker(world, ahead(straights(world)[0], 14.0))
        run(world, 0.5)
        car.set_target_velocity(car.get_transform().get_forward_vector() * 8.0)
        run(world, 2.5)
        event = hits.get(timeout=5)
        assert event.other_actor.id == walker.id
        assert 100 < event.normal_impulse.length() < 2000
        house = max(
            world.get_environment_objects(carla.CityObjectLabel.Buildings), key=lambda thing: thing.bounding_box.extent.y
        )
        box, pose = house.bounding_box, house.transform
        side = pose.get_forward_vector()
        pose.location += side * (box.extent.x + 5.0)
        pose.location.z = 0.5
        pose.rotation.yaw += 180.0
        for other in world.get_actors().filter("vehicle.*"):
            other.set_transform(pose)
        run(world, 0.5)
        while not hits.empty():
            hits.get()
        car.set_target_velocity(car.get_transform().get_forward_vector() * 10.0)
        run(world, 2.0)
        event = hits.get(timeout=5)
        assert event.other_actor.type_id.startswith("static."), event.other_actor.type_id
        assert event.normal_impulse.length() > 1000
        sensor.stop()


@check
def collisions_can_be_switched_off(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        sensor, hits = attach(world, car, "sensor.other.collision")
        start = straights(world)[0]
        ghost = world.spawn_actor(world.get_blueprint_library().find("vehicle.audi.tt"), ahead(start, 12.0))
        ghost.set_collisions(False)
        world.spawn_actor(world.get_blueprint_library().find("static.prop.dirtdebris01"), ahead(start, 16.0))
        run(world, 0.5)
        car.set_target_velocity(car.get_transform().get_forward_vector() * 10.0)
        car.apply_control(carla.VehicleControl(throttle=0.5))
        run(world, 2.0)
        assert hits.empty()
        assert speed(car) > 8.0
        sensor.stop()


@check
def cameras_ignore_vehicles(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        pose = ahead(straights(world)[0], 9.0)
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
