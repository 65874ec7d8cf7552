"""Several clients and egos in one world, clients that die, and actors that are gone."""

import math
import os
import signal
import subprocess
import sys
import time

import carla
from session import PORT, another_client, attach, check, run, spawn_car, speed, stepped, straights


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
