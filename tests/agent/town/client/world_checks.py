"""The world as a whole: versions, settings, maps, blueprints, weather, scenery, refusals."""

import math
import time

import carla
from session import check, refused, run, spawn_car, speed, stepped, straights


@check
def versions_and_maps(client: carla.Client) -> None:
    assert client.get_server_version() == client.get_client_version() == "0.9.16"
    names = client.get_available_maps()
    assert {"/Game/Carla/Maps/Grid01", "/Game/Carla/Maps/Grid02", "/Game/Carla/Maps/Crooked01"} <= set(names)
    city = client.get_world().get_map()
    assert city.name == "Carla/Maps/Grid01"
    assert len(city.get_topology()) > 50
    assert len(city.get_crosswalks()) > 0


@check
def synchronous_ticks(client: carla.Client) -> None:
    with stepped(client, 0.1) as world:
        seen: list[carla.WorldSnapshot] = []
        callback = world.on_tick(seen.append)
        first = world.get_snapshot()
        frames = [world.tick() for _ in range(20)]
        assert frames == list(range(frames[0], frames[0] + 20))
        last = world.get_snapshot()
        assert last.frame == frames[-1]
        assert abs(last.delta_seconds - 0.1) < 1e-6
        assert abs(last.elapsed_seconds - first.elapsed_seconds - 2.0) < 1e-6
        time.sleep(0.2)
        assert world.get_snapshot().frame == frames[-1], "the clock must stand still without ticks"
        world.remove_on_tick(callback)
        assert [snapshot.frame for snapshot in seen if snapshot.frame in frames] == frames


@check
def asynchronous_clock(client: carla.Client) -> None:
    world = client.get_world()
    before = world.wait_for_tick().elapsed_seconds
    car = spawn_car(world)
    car.apply_control(carla.VehicleControl(throttle=1.0))
    time.sleep(1.5)
    after = world.wait_for_tick().elapsed_seconds
    assert 0.8 < after - before < 4.0
    assert speed(car) > 0.5
    car.destroy()


@check
def settings_are_checked(client: carla.Client) -> None:
    world = client.get_world()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 77.0
    assert "fixed_delta_seconds" in refused(lambda: world.apply_settings(settings))
    assert world.get_settings().synchronous_mode is False


@check
def spawn_points_are_on_lanes(client: carla.Client) -> None:
    with stepped(client) as world:
        points = world.get_map().get_spawn_points()
        assert len(points) > 60
        for point in points:
            lane = world.get_map().get_waypoint(point.location)
            assert lane.transform.location.distance(carla.Location(point.location.x, point.location.y, 0.0)) < 0.3
            assert abs((lane.transform.rotation.yaw - point.rotation.yaw + 180) % 360 - 180) < 5.0
        blueprint = world.get_blueprint_library().find("vehicle.nissan.patrol")
        placed = [world.try_spawn_actor(blueprint, point) for point in points]
        assert sum(actor is not None for actor in placed) > 0.9 * len(points)


@check
def blueprints(client: carla.Client) -> None:
    library = client.get_world().get_blueprint_library()
    vehicles = library.filter("vehicle.*")
    assert len(vehicles) >= 8
    kinds = {blueprint.get_attribute("base_type").as_str() for blueprint in vehicles}
    assert kinds >= {"car", "truck", "bus", "van", "motorcycle", "bicycle"}
    assert len(library.filter("walker.pedestrian.*")) >= 6
    assert len(library.filter("static.prop.*")) >= 4
    car = library.find("vehicle.tesla.model3")
    assert int(car.get_attribute("number_of_wheels")) == 4
    assert len(car.get_attribute("color").recommended_values) > 3
    assert car.has_tag("tesla")
    car.set_attribute("role_name", "hero")
    with stepped(client) as world:
        actor = world.spawn_actor(car, world.get_map().get_spawn_points()[0])
        assert actor.attributes["role_name"] == "hero"
        assert list(actor.semantic_tags) == [14]
        world.tick()
        assert world.get_actors().filter("vehicle.*")[0].attributes["role_name"] == "hero"
        box = actor.bounding_box
        assert 2.2 < box.extent.x < 2.6
        assert 0.9 < box.extent.y < 1.2


@check
def weather_round_trip(client: carla.Client) -> None:
    world = client.get_world()
    names = [name for name in dir(carla.WeatherParameters) if name.islower() and not name.startswith("_")]
    assert len(names) == 14
    wanted = carla.WeatherParameters(**{name: 3.0 + index for index, name in enumerate(sorted(names))})
    world.set_weather(wanted)
    got = world.get_weather()
    assert all(abs(getattr(got, name) - getattr(wanted, name)) < 1e-5 for name in names)
    world.set_weather(carla.WeatherParameters.HardRainSunset)
    assert world.get_weather() == carla.WeatherParameters.HardRainSunset


@check
def other_maps(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        old = world.id
        other = client.load_world("Crooked01", False)
        assert other.id != old
        assert other.get_map().name.endswith("/Crooked01")
        assert other.get_settings().synchronous_mode is True
        other.tick()
        assert len(other.get_actors().filter("vehicle.*")) == 0
        assert not car.is_alive or other.get_actor(car.id) is None
        again = client.reload_world()
        assert again.id != other.id
        assert again.get_settings().synchronous_mode is False
        assert "not found" in refused(lambda: client.load_world("Atlantis"))
        text = client.load_world("Grid01").get_map().to_opendrive()
        generated = client.generate_opendrive_world(text)
        assert generated.get_map().name.endswith("OpenDriveMap")
        assert "length" in refused(lambda: client.generate_opendrive_world(text.replace('length="', 'length="-', 1)))
        bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><OpenDRIVE>&a;</OpenDRIVE>'
        assert "DOCTYPE" in refused(lambda: client.generate_opendrive_world(bomb))
        client.load_world("Grid01")


@check
def scenery_and_spectator(client: carla.Client) -> None:
    world = client.get_world()
    houses = world.get_environment_objects(carla.CityObjectLabel.Buildings)
    assert len(houses) > 10
    assert all(house.type == carla.CityObjectLabel.Buildings for house in houses)
    assert len(world.get_level_bbs(carla.CityObjectLabel.Buildings)) == len(houses)
    assert len(world.get_environment_objects()) > len(houses)
    spectator = world.get_spectator()
    spectator.set_transform(carla.Transform(carla.Location(1, 2, 3), carla.Rotation(yaw=30)))
    world.wait_for_tick()
    world.wait_for_tick()
    assert spectator.get_location().distance(carla.Location(1, 2, 3)) < 1e-3
    world.debug.draw_string(carla.Location(), "hello")
    world.debug.draw_box(carla.BoundingBox(carla.Location(), carla.Vector3D(1, 1, 1)), carla.Rotation())
    hit = world.ground_projection(carla.Location(0, 0, 5), 20.0)
    assert hit is not None
    assert -0.2 < hit.location.z < 0.4
    assert (
        len(
            world.cast_ray(
                carla.Location(houses[0].transform.location.x, houses[0].transform.location.y, 100),
                carla.Location(houses[0].transform.location.x, houses[0].transform.location.y, -1),
            )
        )
        >= 1
    )
    assert "no recorder" in refused(lambda: client.replay_file("x.log", 0, 0, 0))


@check
def refusals_are_clear(client: carla.Client) -> None:
    with stepped(client) as world:
        library = world.get_blueprint_library()
        car = spawn_car(world)
        blueprint = library.find("vehicle.tesla.model3")
        assert "collision at spawn position" in refused(lambda: world.spawn_actor(blueprint, straights(world)[0]))
        assert world.try_spawn_actor(blueprint, straights(world)[0]) is None
        camera = library.find("sensor.camera.rgb")
        camera.set_attribute("image_size_x", "0")
        assert "0x600" in refused(lambda: world.spawn_actor(camera, carla.Transform(), attach_to=car))
        camera.set_attribute("image_size_x", "20000")
        camera.set_attribute("image_size_y", "20000")
        assert "20000x20000" in refused(lambda: world.spawn_actor(camera, carla.Transform(), attach_to=car))
        nowhere = carla.Transform(carla.Location(x=math.nan))
        assert "finite" in refused(lambda: world.spawn_actor(library.find("vehicle.audi.tt"), nowhere))


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
