"""About how long each piece of a study takes: only the progress bar and the order of the jobs depend on it."""

# [s] what one unit of work takes on one core of a 2-core x86-64 machine; only progress and order depend on these.
START_S = 4.0  # a worker with its libraries
TOWN_S = 4.0  # a simulator with its map
FRAME_S = 0.1  # a recorded frame, the ticks before it and traffic counted
UPDATE_S = 0.035  # an update, per image of IMAGE_PIXELS
IMAGE_PIXELS = 128 * 256  # that the figures of an update and of a test image are for
CRITIC_FACTOR = 1.9  # an adversarial objective against a plain one
EXPORT_S = 18.0  # a whole model and its encoder
CONVERT_S = 12.0  # the same in another precision
TAKE_S = 3.0  # a ready model and its encoder
EVALUATE_S = 0.02  # a test image
LATENCY_S = 0.01  # a call
STEP_S = 0.018  # a step of driving
JUDGE_STEPS = 1500  # of the routes before and after A2C, at most
IMITATE_S = 0.04  # an update of the policy
LATENT_S = 0.003  # a demonstrated frame through an encoder
ROUTE_STEPS = 400  # steps of a judged route
EXISTING_IMAGES = 200  # of a data set that nobody has looked into yet
