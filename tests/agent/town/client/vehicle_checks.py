"""Vehicles: driving, forces, physics, and the traffic lights in front of them."""

import carla
from session import STEP_S, check, run, spawn_car, speed, stepped, straights


@check
def driving(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        run(world, 1.0)
        start = car.get_location()
        assert abs(start.z) < 0.05, "the car settles on the road"
        assert speed(car) < 0.01
        heading = car.get_transform().rotation.yaw
        assert heading != round(heading, 3), "no heading is exact"
        car.apply_control(carla.VehicleControl(throttle=1.0))
        seconds = 0.0
        while speed(car) < 50 / 3.6:
            world.tick()
            seconds += STEP_S
            assert seconds < 10
        assert 3.5 < seconds < 6.5, f"0-50 km/h in {seconds:.2f} s"
        where, fast = car.get_location(), speed(car)
        car.apply_control(carla.VehicleControl(brake=1.0))
        while speed(car) > 0.05:
            world.tick()
        braking = fast**2 / 2 / car.get_location().distance(where)
        assert 7.5 < braking < 9.8, f"full brake {braking:.1f} m/s2"
        assert car.get_control().brake == 1.0
        run(world, 1.0)
        car.apply_control(carla.VehicleControl(throttle=0.6, reverse=True))
        run(world, 2.0)
        forward = car.get_transform().get_forward_vector()
        assert car.get_velocity().dot(forward) < -0.5
        assert car.get_control().gear == -1


@check
def controls_that_do_not_stick(client: carla.Client) -> None:
    with stepped(client) as world:
        library, speeds = world.get_blueprint_library(), []
        for index, sticky in enumerate(("true", "false")):
            blueprint = library.find("vehicle.audi.tt")
            blueprint.set_attribute("sticky_control", sticky)
            car = world.spawn_actor(blueprint, straights(world)[index])
            run(world, 0.5)
            car.apply_control(carla.VehicleControl(throttle=1.0))
            world.tick()
            assert car.get_control().throttle == 1.0
            run(world, 2.0)
            assert car.get_control().throttle == float(sticky == "true")
            speeds.append(speed(car))
        assert speeds[0] > 5.0 > 1.0 > speeds[1]
        bicycle = world.spawn_actor(library.find("vehicle.bh.crossbike"), straights(world)[2])
        assert len(bicycle.get_physics_control().wheels) == 4, "as CARLA's"


@check
def steering(client: carla.Client) -> None:
    with stepped(client) as world:
        for steer in (0.3, -0.3):
            car = spawn_car(world)
            run(world, 0.5)
            yaw = car.get_transform().rotation.yaw
            turned = 0.0
            car.set_target_velocity(car.get_transform().get_forward_vector() * 5.0)
            car.apply_control(carla.VehicleControl(throttle=0.3, steer=steer))
            run(world, 0.4)
            turned = (car.get_transform().rotation.yaw - yaw + 180) % 360 - 180
            assert turned * steer > 0.5 * abs(steer), f"steer {steer} turned by {turned:.2f} degrees"
            assert car.get_angular_velocity().z * steer > 0
            assert abs(car.get_wheel_steer_angle(carla.VehicleWheelLocation.FL_Wheel)) > 5
            car.destroy()
            world.tick()


@check
def wet_roads_are_slippery(client: carla.Client) -> None:
    stops = []
    with stepped(client) as world:
        for wetness in (0.0, 100.0):
            world.set_weather(carla.WeatherParameters(wetness=wetness, precipitation_deposits=wetness))
            car = spawn_car(world)
            run(world, 0.5)
            car.set_target_velocity(car.get_transform().get_forward_vector() * 12.0)
            car.apply_control(carla.VehicleControl(brake=1.0))
            start = car.get_location()
            run(world, 4.0)
            assert speed(car) < 0.05
            stops.append(car.get_location().distance(start))
            car.destroy()
            world.tick()
    assert stops[1] > 1.2 * stops[0], stops


@check
def ackermann(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        run(world, 0.5)
        car.apply_ackermann_control(carla.VehicleAckermannControl(speed=6.0))
        run(world, 5.0)
        assert abs(speed(car) - 6.0) < 0.6, speed(car)
        car.apply_ackermann_control(carla.VehicleAckermannControl(speed=0.0))
        run(world, 5.0)
        assert speed(car) < 0.1


@check
def forces_and_switches(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        run(world, 1.0)
        forward = car.get_transform().get_forward_vector()
        mass = car.get_physics_control().mass
        car.add_impulse(forward * mass * 3.0)
        world.tick()
        assert abs(speed(car) - 3.0) < 0.4
        car.enable_constant_velocity(carla.Vector3D(4.0, 0.0, 0.0))
        run(world, 1.0)
        assert abs(speed(car) - 4.0) < 0.05
        car.disable_constant_velocity()
        car.apply_control(carla.VehicleControl(brake=1.0))
        run(world, 2.0)
        assert speed(car) < 0.05
        car.set_simulate_physics(False)
        car.apply_control(carla.VehicleControl(throttle=1.0))
        high = carla.Transform(carla.Location(0, 0, -50), carla.Rotation(yaw=10))
        car.set_transform(high)
        run(world, 1.0)
        assert car.get_location().distance(high.location) < 1e-3, "parked under the town without physics"
        car.set_simulate_physics(True)
        car.set_transform(straights(world)[1])
        run(world, 1.5)
        assert speed(car) > 1.0
        car.set_light_state(carla.VehicleLightState(carla.VehicleLightState.LowBeam | carla.VehicleLightState.LeftBlinker))
        world.tick()
        assert car.get_light_state() == carla.VehicleLightState.LowBeam | carla.VehicleLightState.LeftBlinker
        telemetry = car.get_telemetry_data()
        assert telemetry.throttle == 1.0
        assert abs(telemetry.speed - speed(car)) < 0.5


@check
def physics_control(client: carla.Client) -> None:
    with stepped(client) as world:
        car = spawn_car(world)
        control = car.get_physics_control()
        assert len(control.wheels) == 4
        assert control.wheels[0].max_steer_angle > 30 > control.wheels[2].max_steer_angle
        control.mass = 4000.0
        wheels = control.wheels
        for wheel in wheels:
            wheel.tire_friction = 1.0
        control.wheels = wheels
        car.apply_physics_control(control)
        run(world, 1.0)
        assert car.get_physics_control().mass == 4000.0
        car.set_target_velocity(car.get_transform().get_forward_vector() * 10.0)
        car.apply_control(carla.VehicleControl(brake=1.0))
        run(world, 1.0)
        assert speed(car) > 6.0, "bald tyres hardly brake"


@check
def lights_and_crossroads(client: carla.Client) -> None:
    with stepped(client, 0.1) as world:
        lights = [actor for actor in world.get_actors() if actor.type_id == "traffic.traffic_light"]
        assert len(lights) >= 8
        city = world.get_map()
        for light in lights:
            stops = light.get_stop_waypoints()
            assert len(stops) >= 1
            assert all(not stop.is_junction for stop in stops)
            ahead = stops[0].next(12.0)
            assert any(place.is_junction for place in ahead) or any(p.is_junction for p in stops[0].next(8.0))
            assert city.get_all_landmarks_from_id(light.get_opendrive_id())
            group = light.get_group_traffic_lights()
            assert light.id in [member.id for member in group]
        light = next(light for light in lights if len(light.get_group_traffic_lights()) > 1)
        group = light.get_group_traffic_lights()
        states: dict[int, list[carla.TrafficLightState]] = {member.id: [] for member in group}
        for _ in range(900):
            world.tick()
            for member in group:
                states[member.id].append(member.state)
            green = [member for member in group if member.state == carla.TrafficLightState.Green]
            assert len({member.get_opendrive_id() for member in green}) < len(group)
        assert all(carla.TrafficLightState.Green in seen and carla.TrafficLightState.Yellow in seen for seen in states.values())
        light.freeze(True)
        light.set_state(carla.TrafficLightState.Green)
        run(world, 30.0)
        assert light.state == carla.TrafficLightState.Green
        assert light.is_frozen()
        light.set_state(carla.TrafficLightState.Red)
        world.tick()
        car = world.get_blueprint_library().find("vehicle.lincoln.mkz_2020")
        place = light.get_stop_waypoints()[0].transform
        place.location.z += 0.3
        car = world.spawn_actor(car, place)
        world.tick()
        world.tick()
        assert car.is_at_traffic_light()
        assert car.get_traffic_light_state() == carla.TrafficLightState.Red
        assert car.get_traffic_light().id == light.id
        light.set_green_time(3.0)
        world.tick()
        assert light.get_green_time() == 3.0
        light.freeze(False)
