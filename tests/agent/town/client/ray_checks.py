"""Lidar, radar and obstacle detector: points lie on what is there, under the right name."""

import math
from typing import Any

import carla
import numpy as np
from session import STEP_S, ahead, attach, check, depth_m, pixels, run, spawn_car, stepped, straights

POINT = np.dtype([("point", "<f4", 3), ("cosine", "<f4"), ("actor", "<u4"), ("tag", "<u4")])
LOSSLESS = {"dropoff_general_rate": 0, "dropoff_intensity_limit": 0, "dropoff_zero_intensity": 0}


def semantic_points(scan: carla.SemanticLidarMeasurement) -> Any:
    return np.frombuffer(scan.raw_data, POINT)


def car_ahead(world: carla.World, metres: float) -> tuple[carla.Vehicle, carla.Vehicle]:
    """Two cars in one lane, `metres` between their origins."""
    first = spawn_car(world)
    pose = ahead(straights(world)[0], metres)
    second = world.spawn_actor(world.get_blueprint_library().find("vehicle.nissan.patrol"), pose)
    run(world, 1.0)
    return first, second


@check
def lidar_points_lie_on_things(client: carla.Client) -> None:
    with stepped(client) as world:
        car, target = car_ahead(world, 14.0)
        roof = carla.Transform(carla.Location(x=0.3, z=2.4))
        options = {"channels": 16, "range": 60, "points_per_second": 320_000, "rotation_frequency": 20}
        lidar, scans = attach(world, car, "sensor.lidar.ray_cast_semantic", roof, **options, upper_fov=5, lower_fov=-25)
        frame = world.tick()
        scan = scans.get(timeout=20)
        assert scan.frame == frame
        assert scan.channels == 16
        assert abs(scan.horizontal_angle) < 1e-4 or abs(scan.horizontal_angle - 2 * math.pi) < 1e-4, "one turn per tick"
        points = semantic_points(scan)
        assert sum(scan.get_point_count(channel) for channel in range(16)) == len(points) == len(scan)
        lowest = scan.get_point_count(15)
        assert lowest == 1000, "the lowest laser meets the ground all round: 320,000 / 20 Hz / 16 channels"
        # Every point of the road lies on the road's surface, in the world.
        place = lidar.get_transform()
        ground = points[np.isin(points["tag"], (1, 24))]
        assert len(ground) > 1000
        for point in ground[:: len(ground) // 50]["point"]:
            there = place.transform(carla.Location(*map(float, point)))
            assert abs(there.z) < 0.03, there
        # The car in front: its points lie in its box, up to the mirrors, and its rear is where it should be.
        mine = points[points["actor"] == target.id]
        assert len(mine) > 50
        assert set(mine["tag"]) == {14}
        box, local = target.bounding_box, []
        for point in mine["point"]:
            there = place.transform(carla.Location(*map(float, point)))
            local.append(target.get_transform().inverse_transform(there))
        assert max(abs(p.x - box.location.x) for p in local) < box.extent.x + 0.03
        assert max(abs(p.y - box.location.y) for p in local) < box.extent.y + 0.16, "but for the mirrors"
        assert -0.03 < min(p.z for p in local) < max(p.z for p in local) < 2 * box.extent.z + 0.03
        rear = min(p.x for p in local)
        assert abs(rear + box.extent.x) < 0.05, (rear, box.extent.x)
        assert ((mine["cosine"] > 0) & (mine["cosine"] <= 1.0001)).all()
        # Nothing of the own car, and no id for what is no actor.
        assert set(points["actor"]) <= {0, target.id, car.id}
        scenery = points[points["actor"] == 0]
        assert not set(scenery["tag"]) & {0, 11}, "rays meet neither nothing nor the sky"
        lidar.stop()


@check
def lidar_and_camera_agree(client: carla.Client) -> None:
    with stepped(client) as world:
        car, _ = car_ahead(world, 10.0)
        pose = carla.Transform(carla.Location(x=0.2, z=2.2))
        camera, images = attach(
            world, car, "sensor.camera.semantic_segmentation", pose, image_size_x=800, image_size_y=400, fov=90
        )
        depth_camera, depths = attach(world, car, "sensor.camera.depth", pose, image_size_x=800, image_size_y=400, fov=90)
        options = {"channels": 24, "range": 45, "points_per_second": 200_000, "rotation_frequency": 20, "horizontal_fov": 70}
        lidar, scans = attach(world, car, "sensor.lidar.ray_cast_semantic", pose, **options, upper_fov=8, lower_fov=-20)
        world.tick()
        tags, metres = pixels(images.get(timeout=20))[..., 2], depth_m(depths.get(timeout=20))
        points = semantic_points(scans.get(timeout=20))
        x, y, z = points["point"].T
        column = (400 + 400 * y / x).astype(int)
        row = (200 - 400 * z / x).astype(int)
        inside = (x > 1) & (column >= 1) & (column < 799) & (row >= 1) & (row < 399)
        assert inside.sum() > 3000
        points, column, row, x = points[inside], column[inside], row[inside], x[inside]
        # At an outline the pixel's middle and the ray see different things: away from outlines all must agree.
        around = np.stack([tags[row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
        calm = (around == around[0]).all(0)
        assert calm.mean() > 0.7
        assert (tags[row, column] == points["tag"])[calm].mean() > 0.995
        near = calm & (np.abs(metres[row, column] - x) < 0.02 * x + 0.05)
        assert near.sum() > 0.97 * calm.sum()
        for sensor in (camera, depth_camera, lidar):
            sensor.stop()


@check
def lidar_losses_and_turning(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        run(world, 0.5)
        roof = carla.Transform(carla.Location(z=2.4))
        options = {"channels": 8, "range": 50, "points_per_second": 80_000, "upper_fov": -10, "lower_fov": -30}
        whole, all_points = attach(world, car, "sensor.lidar.ray_cast", roof, **options, **LOSSLESS, rotation_frequency=5)
        lossy, fewer = attach(world, car, "sensor.lidar.ray_cast", roof, **options, rotation_frequency=20)
        options["noise_stddev"] = 0.1
        noisy, uneven = attach(world, car, "sensor.lidar.ray_cast", roof, **options, **LOSSLESS, rotation_frequency=20)
        slow, rare = attach(world, car, "sensor.lidar.ray_cast", roof, **options, **LOSSLESS, sensor_tick=0.1)
        empty, none = attach(world, car, "sensor.lidar.ray_cast", roof, channels=4, points_per_second=0)
        run(world, 4 * STEP_S)
        clouds = []
        for turn in range(4):
            scan = all_points.get(timeout=20)
            cloud = np.frombuffer(scan.raw_data, "<f4").reshape(-1, 4)
            assert len(cloud) == 4000, "80,000 points a second, 20 ticks a second"
            assert abs(math.degrees(scan.horizontal_angle) - 90.0 * (turn + 1)) % 360.0 < 0.01
            distance = np.linalg.norm(cloud[:, :3], axis=1)
            assert np.allclose(cloud[:, 3], np.exp(-0.004 * distance), atol=1e-4)
            clouds.append(np.degrees(np.arctan2(cloud[:, 1], cloud[:, 0])))
        assert all(np.ptp(angles) < 91.0 for angles in clouds), "a quarter of a turn a tick"
        assert len({round(float(np.median(angles)) // 90) for angles in clouds}) == 4
        kept = len(fewer.get(timeout=20)) / 4000
        assert 0.5 < kept < 0.6, f"{kept:.2f} kept; 45 % are dropped, and a few more by their intensity"
        # On a flat road noise shows as points above and below it.
        heights = np.frombuffer(uneven.get(timeout=20).raw_data, "<f4").reshape(-1, 4)[:, 2]
        flat = (
            np.frombuffer(all_points.get(timeout=20).raw_data, "<f4").reshape(-1, 4)[:, 2] if not all_points.empty() else None
        )
        assert flat is None or heights.std() > flat.std()
        assert rare.qsize() == 2
        assert len(rare.get(timeout=20)) == 8000
        assert len(none.get(timeout=20)) == 0
        for sensor in (whole, lossy, noisy, slow, empty):
            sensor.stop()


@check
def radar_sees_speed(client: carla.Client) -> None:
    with stepped(client) as world:
        car, target = car_ahead(world, 30.0)
        nose = carla.Transform(carla.Location(x=2.6, z=0.8))
        radar, sweeps = attach(world, car, "sensor.other.radar", nose, points_per_second=20_000, horizontal_fov=30)
        forward = car.get_transform().get_forward_vector()
        for own, other in ((0.0, 6.0), (8.0, 0.0), (0.0, -5.0)):
            car.set_target_velocity(forward * own)
            target.set_target_velocity(forward * other)
            world.tick()
            while sweeps.qsize() > 1:
                sweeps.get()
            sweep = sweeps.get(timeout=20)
            values = np.frombuffer(sweep.raw_data, "<f4").reshape(-1, 4)  # velocity, azimuth, altitude, depth
            assert len(values) == len(sweep)
            assert sweep[0].depth == values[0, 3]
            assert 200 < len(values) <= 1000
            gap = car.get_location().distance(target.get_location()) - 2.6 - target.bounding_box.extent.x
            ahead = (np.abs(values[:, 1]) < 0.01) & (np.abs(values[:, 2]) < 0.01)
            assert ahead.sum() >= 2
            assert abs(np.median(values[ahead, 3]) - gap) < 0.35, (values[ahead], gap)
            relative = target.get_velocity().dot(forward) - car.get_velocity().dot(forward)
            assert abs(np.median(values[ahead, 0]) - relative) < 0.35, "approaching things have a negative velocity"
            assert np.sign(np.median(values[ahead, 0])) == np.sign(other - own)
        assert np.abs(values[:, 1]).max() < math.radians(15.1)
        assert (values[:, 1] > 0.1).any()
        assert (values[:, 1] < -0.1).any()
        radar.stop()


@check
def obstacles_ahead(client: carla.Client) -> None:
    with stepped(client) as world:
        car, target = car_ahead(world, 15.0)
        nose = carla.Transform(carla.Location(x=2.5, z=1.0))
        options = {"distance": 20, "hit_radius": 0.4}
        sensor, events = attach(world, car, "sensor.other.obstacle", nose, **options, only_dynamics=True)
        short, nothing = attach(world, car, "sensor.other.obstacle", nose, distance=5, hit_radius=0.4, only_dynamics=True)
        world.tick()
        event = events.get(timeout=5)
        assert event.actor.id == car.id
        assert event.other_actor.id == target.id
        gap = car.get_location().distance(target.get_location()) - 2.5 - target.bounding_box.extent.x
        assert abs(event.distance - (gap - 0.4)) < 0.05, (event.distance, gap)
        assert nothing.empty()
        target.set_transform(carla.Transform(carla.Location(z=-50)))
        world.tick()
        while not events.empty():
            events.get()
        world.tick()
        assert events.empty(), "nothing ahead, no event"
        # A house is an obstacle for the sensor that looks for everything.
        for house in world.get_environment_objects(carla.CityObjectLabel.Buildings):
            out, box = house.transform.get_forward_vector(), house.bounding_box
            start = house.transform.location + out * (box.extent.x + 4.0)
            start.z = 1.5
            seen = world.project_point(start, out * -1.0, 10.0)  # no other house between
            if seen and abs(seen.location.distance(start) - 4.0) < 0.01:
                break
        pose = carla.Transform(start, carla.Rotation(yaw=house.transform.rotation.yaw + 180.0))
        fixed, walls = attach(world, None, "sensor.other.obstacle", pose, distance=10, hit_radius=0.3)
        blind, living = attach(world, None, "sensor.other.obstacle", pose, distance=10, hit_radius=0.3, only_dynamics=True)
        world.tick()
        event = walls.get(timeout=5)
        assert event.other_actor.type_id.startswith("static.")
        assert event.other_actor.type_id != "static.road"
        assert abs(event.distance - 3.7) < 0.02, "four metres, less the ball's radius"
        assert living.empty()
        for each in (sensor, short, fixed, blind):
            each.stop()
