"""What the town does not have: refused with a reason, or accepted so that programs go on."""

from collections.abc import Callable
from typing import Any

import carla
import numpy as np
import recording
from session import check, refused, spawn_car, spawn_walker, stepped, straights


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
        walker = spawn_walker(world, straights(world)[1])
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
