"""Walkers and the Traffic Manager."""

import random

import carla
from session import attach, check, free_port, run, spawn_car, spawn_walker, speed, stepped, straights


@check
def walkers_by_hand(client: carla.Client) -> None:
    with stepped(client) as world:
        pose = straights(world)[0]
        walker = spawn_walker(world, pose)
        run(world, 1.0)
        start = walker.get_location()
        direction = pose.get_forward_vector()
        walker.apply_control(carla.WalkerControl(direction, 1.5))
        run(world, 2.0)
        moved = walker.get_location() - start
        assert 2.6 < moved.length() < 3.1
        assert moved.make_unit_vector().dot(direction) > 0.99
        assert abs(speed(walker) - 1.5) < 0.01
        walker.apply_control(carla.WalkerControl(speed=0.0))
        run(world, 1.0)
        assert speed(walker) < 0.01


@check
def walkers_by_themselves(client: carla.Client) -> None:
    with stepped(client, 0.1) as world:
        world.set_pedestrians_seed(7)
        library = world.get_blueprint_library()
        people = []
        for index in range(12):
            pose = carla.Transform(world.get_random_location_from_navigation() + carla.Location(z=1.0))
            person = world.try_spawn_actor(library.filter("walker.*")[index % 6], pose)
            if person:
                people.append(person)
        assert len(people) >= 9
        world.tick()
        minds = [
            world.spawn_actor(library.find("controller.ai.walker"), carla.Transform(), attach_to=person) for person in people
        ]
        world.tick()
        for mind in minds:
            mind.start()
            mind.go_to_location(world.get_random_location_from_navigation())
            mind.set_max_speed(1.4)
        walked = dict.fromkeys((person.id for person in people), 0.0)
        last = {person.id: person.get_location() for person in people}
        for _ in range(300):
            world.tick()
            for person in people:
                place = person.get_location()
                walked[person.id] += place.distance(last[person.id])
                last[person.id] = place
                assert 0.5 < place.z < 1.6, "people walk on the ground"
        mean = sum(walked.values()) / len(walked)
        assert mean > 0.7 * 1.4 * 30, f"mean {mean:.1f} m in 30 s"
        # One of them is run over; things that stand on the sidewalk may shield the first few.
        car = spawn_car(world)
        sensor, hits = attach(world, car, "sensor.other.collision")
        names: list[str] = []
        for victim in people:
            heading = victim.get_transform()
            behind = carla.Transform(heading.location - heading.get_forward_vector() * 5.0, heading.rotation)
            behind.location.z = 0.3
            car.set_transform(behind)
            world.tick()
            for _ in range(15):
                car.set_target_velocity((victim.get_location() - car.get_location()).make_unit_vector() * 8.0)
                world.tick()
            while not hits.empty():
                names.append(hits.get().other_actor.type_id)
            if any(name.startswith("walker.") for name in names):
                break
        assert any(name.startswith("walker.") for name in names), names
        sensor.stop()
        for mind in minds:
            mind.stop()


@check
def traffic_manager(client: carla.Client) -> None:
    with stepped(client, 0.1) as world:
        port = free_port()
        manager = client.get_trafficmanager(port)
        manager.set_synchronous_mode(True)
        manager.set_random_device_seed(5)
        library = world.get_blueprint_library()
        points = world.get_map().get_spawn_points()
        random.Random(1).shuffle(points)
        names = (
            "vehicle.tesla.model3",
            "vehicle.audi.a2",
            "vehicle.mercedes.sprinter",
            "vehicle.kawasaki.ninja",
            "vehicle.nissan.patrol",
        )
        cars, hits, sensors = [], [], []
        for index, point in enumerate(points[:16]):
            car = world.try_spawn_actor(library.find(names[index % len(names)]), point)
            if car:
                cars.append(car)
                car.set_autopilot(True, port)
                sensor = world.spawn_actor(library.find("sensor.other.collision"), carla.Transform(), attach_to=car)
                sensor.listen(hits.append)
                sensors.append(sensor)
        metres = dict.fromkeys((car.id for car in cars), 0.0)
        stood = dict.fromkeys(metres, 0.0)
        waited, ran = 0, 0
        before: dict[int, bool] = {}
        for _ in range(600):
            world.tick()
            for car in cars:
                velocity = speed(car)
                metres[car.id] += velocity * 0.1
                stood[car.id] = 0.0 if velocity > 0.1 else stood[car.id] + 0.1
                red = car.is_at_traffic_light() and car.get_traffic_light_state() == carla.TrafficLightState.Red
                waited += red and velocity < 0.1
                ran += before.get(car.id, False) and not car.is_at_traffic_light() and velocity > 2.0
                before[car.id] = red
        for sensor in sensors:
            sensor.stop()
        assert sum(metres.values()) / len(cars) > 60, metres
        assert waited > 20, "somebody waits at a red light"
        assert ran == 0, f"{ran} cars ran a red light"
        assert len(hits) <= 1, [(hit.actor.type_id, hit.other_actor.type_id) for hit in hits]
        assert max(stood.values()) < 60.0
        for car in cars:
            car.set_autopilot(False, port)
        world.tick()
        client.apply_batch_sync([carla.command.DestroyActor(car) for car in cars], False)
        world.tick()
        manager.set_synchronous_mode(False)
