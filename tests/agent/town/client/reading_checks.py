"""What programs read: snapshots, attributes, landmarks, times of lights, fields of measurements, Traffic Manager settings."""

import carla
import numpy as np
from session import attach, check, free_port, run, spawn_car, speed, stepped, straights


@check
def snapshots_and_states(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        sensor, data = attach(world, car, "sensor.other.imu")
        car.apply_control(carla.VehicleControl(throttle=1.0))
        run(world, 1.0)
        snapshot = world.get_snapshot()
        mine = snapshot.find(car.id)
        assert mine.id == car.id
        assert snapshot.has_actor(car.id)
        assert mine.get_transform() == car.get_transform()
        assert mine.get_velocity() == car.get_velocity()
        assert mine.get_angular_velocity() == car.get_angular_velocity()
        assert mine.get_acceleration() == car.get_acceleration()
        assert car.get_acceleration().dot(car.get_transform().get_forward_vector()) > 1.0
        assert snapshot.platform_timestamp > 0.0
        assert car.is_active
        assert not car.is_dormant
        assert car.actor_state == carla.ActorState.Active
        assert sensor.parent.id == car.id
        assert car.get_world().id == world.id
        assert world.get_actor(car.id).id == car.id
        assert sensor.is_listening()
        measured = data.get(timeout=5)
        assert measured.timestamp > 0.0
        assert measured.transform.location.distance(car.get_location()) < 20.0
        assert car.get_speed_limit() > 0.0
        control = car.get_control()
        assert (control.throttle, control.brake, control.steer, control.hand_brake) == (1.0, 0.0, 0.0, False)
        sensor.stop()
        assert not sensor.is_listening()


@check
def attributes_of_blueprints(client: carla.Client) -> None:
    library = client.get_world().get_blueprint_library()
    camera = library.find("sensor.camera.rgb")
    assert camera.id == "sensor.camera.rgb"
    assert {"sensor", "camera", "rgb"} == set(camera.tags)
    assert camera.match_tags("sensor.*")
    assert camera.has_attribute("fov")
    assert not camera.has_attribute("wings")
    width = camera.get_attribute("image_size_x")
    assert (width.id, width.type, width.as_int(), width.is_modifiable) == (
        "image_size_x",
        carla.ActorAttributeType.Int,
        800,
        True,
    )
    assert camera.get_attribute("fov").as_float() == 90.0
    car = library.find("vehicle.audi.tt")
    assert car.get_attribute("has_lights").as_bool() is True
    assert car.get_attribute("color").as_color().a == 255
    assert not car.get_attribute("number_of_wheels").is_modifiable
    assert len(library.filter_by_attribute("base_type", "truck")) >= 2


@check
def landmarks_and_waypoints(client: carla.Client) -> None:
    with stepped(client) as world:
        city = world.get_map()
        marks = city.get_all_landmarks()
        lights = [mark for mark in marks if mark.is_dynamic]
        assert len(lights) >= 8
        assert len(city.get_all_landmarks_of_type(lights[0].type)) >= len(lights)
        assert lights[0].id
        assert lights[0].s >= 0.0
        assert world.get_traffic_light(lights[0]) is not None
        assert isinstance(city.get_landmark_group(lights[0]), list)
        stop = world.get_actors().filter("traffic.traffic_light")[0].get_stop_waypoints()[0]
        ahead = [mark for mark in stop.get_landmarks(40.0, False) if mark.is_dynamic]
        assert ahead
        assert ahead[0].distance <= 40.0
        assert ahead[0].waypoint.road_id == ahead[0].road_id
        places = city.generate_waypoints(10.0)
        assert len(places) > 200
        place = city.get_waypoint_xodr(stop.road_id, stop.lane_id, stop.s)
        assert place.transform.location.distance(stop.transform.location) < 0.5
        there = straights(world)[0].location
        back = city.geolocation_to_transform(city.transform_to_geolocation(there))
        assert back.distance(there) < 0.5
        junction = next(place for place in places if place.is_junction).get_junction()
        assert junction.bounding_box.extent.x > 1.0
        assert junction.get_waypoints(carla.LaneType.Driving)


@check
def times_of_lights(client: carla.Client) -> None:
    with stepped(client) as world:
        light = world.get_actors().filter("traffic.traffic_light")[0]
        light.set_yellow_time(1.5)
        light.set_red_time(2.5)
        before = light.get_elapsed_time()
        world.tick()
        assert light.get_yellow_time() == 1.5
        assert light.get_red_time() == 2.5
        assert light.get_elapsed_time() != before
        assert light.get_state() == light.state
        assert world.get_actors().filter("traffic.*")[0].trigger_volume.extent.x > 0.0


@check
def time_begins_with_an_episode(client: carla.Client) -> None:
    with stepped(client, 0.1) as world:
        for _ in range(200):
            world.tick()
        before = world.get_snapshot()
        world = client.reload_world(False)
        world.tick()
        after = world.get_snapshot()
        assert after.frame > before.frame
        assert after.timestamp.elapsed_seconds < 10.0 < before.timestamp.elapsed_seconds


@check
def fields_of_measurements(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        up = carla.Transform(carla.Location(z=2.4))
        lidar, clouds = attach(world, car, "sensor.lidar.ray_cast", up, range=40, dropoff_general_rate=0)
        semantic, tagged = attach(world, car, "sensor.lidar.ray_cast_semantic", up, range=40)
        radar, sweeps = attach(
            world, car, "sensor.other.radar", carla.Transform(carla.Location(x=3, z=1)), points_per_second=9000
        )
        world.tick()
        cloud, points, sweep = (queue.get(timeout=20) for queue in (clouds, tagged, sweeps))
        assert cloud.channels == 32
        assert sum(map(cloud.get_point_count, range(32))) == len(cloud)
        values = np.frombuffer(cloud.raw_data, "<f4").reshape(-1, 4)
        assert (cloud[0].point.x, cloud[0].intensity) == (values[0, 0], values[0, 3])
        first = points[0]
        assert 0.0 < first.cos_inc_angle <= 1.0001
        assert 0 < first.object_tag <= 28
        assert first.object_idx >= 0
        assert first.point.x**2 + first.point.y**2 + first.point.z**2 < 40.1**2
        assert sweep.get_detection_count() == len(sweep)
        for detection in sweep:
            assert abs(detection.azimuth) < 0.27
            assert abs(detection.altitude) < 0.27
            assert abs(detection.velocity) < 1.0, "all stands still"
            assert detection.depth < 104.0
        for sensor in (lidar, semantic, radar):
            sensor.stop()


@check
def settings_of_the_traffic_manager(client: carla.Client) -> None:
    with stepped(client, 0.1) as world:
        port = free_port()
        manager = client.get_trafficmanager(port)
        assert manager.get_port() == port
        manager.set_synchronous_mode(True)
        manager.set_random_device_seed(3)
        manager.set_global_distance_to_leading_vehicle(2.0)
        manager.global_percentage_speed_difference(10.0)
        manager.global_lane_offset(0.0)
        manager.set_hybrid_physics_mode(False)
        manager.set_hybrid_physics_radius(50.0)
        manager.set_osm_mode(False)
        manager.set_respawn_dormant_vehicles(False)
        slow, fast = spawn_car(world, 0), spawn_car(world, 1)
        for car in (slow, fast):
            car.set_autopilot(True, port)
            manager.auto_lane_change(car, False)
            manager.distance_to_leading_vehicle(car, 3.0)
            manager.ignore_lights_percentage(car, 100.0)
            manager.ignore_signs_percentage(car, 100.0)
            manager.ignore_vehicles_percentage(car, 0.0)
            manager.ignore_walkers_percentage(car, 0.0)
            manager.keep_slow_lane_rule_percentage(car, 0.0)
            manager.random_left_lanechange_percentage(car, 0.0)
            manager.random_right_lanechange_percentage(car, 0.0)
            manager.update_vehicle_lights(car, True)
            manager.vehicle_lane_offset(car, 0.0)
        manager.collision_detection(slow, fast, True)
        manager.set_desired_speed(slow, 10.0)
        manager.vehicle_percentage_speed_difference(fast, -20.0)
        top = {slow.id: 0.0, fast.id: 0.0}
        for _ in range(120):
            world.tick()
            for car in (slow, fast):
                top[car.id] = max(top[car.id], speed(car))
        assert top[slow.id] < 14.0 / 3.6 < top[fast.id], top
        for car in (slow, fast):
            car.set_autopilot(False, port)
        world.tick()
        manager.set_synchronous_mode(False)
