"""The strip: what shading knows of up to 256 neighbouring pixels of a row, quantity after quantity in one flat array.

Shading works strip by strip in short loops over one quantity each. All of them live in one array with fixed distances, so
that the compiler sees that they never overlap and turns the loops into vector instructions; look-ups in tables, which it
cannot, stand in loops of their own.
"""

STRIP = 256  # pixels

(
    W,  # [m] distance along the camera's axis; 0 for sky
    RAY_X, RAY_Y, RAY_Z,  # ray through the pixel, 1 m long along the camera's axis
    X, Y, Z,  # [m] the place that is seen
    TEXTURE_U, TEXTURE_V,  # texture repeats
    NORMAL_X, NORMAL_Y, NORMAL_Z,
    PAINT_R, PAINT_G, PAINT_B,  # colour that multiplies the texture
    DENSITY,  # (texels per pixel at 1 m)²
    NEARNESS,  # [1/m] 1 / distance of the triangle's plane from the eye
    FIRST_TEXEL,  # of the pixel's texture layer
    TEXEL_R, TEXEL_G, TEXEL_B,  # 0 to 255
    GLASS,  # 0 to 1
    SKY,  # 1 where there is nothing
    LEVEL_GROUND,  # how the surface gets wet: 0 it does not, 1 it darkens and mirrors, 2 puddles stand on it too
    DIRECT,  # share of the sun's light
    LAMPS,  # light of street lamps
    BEAM,  # light of headlamps
    DARKNESS,  # what wetness leaves of the texture
    EMISSION,  # light that a lamp gives itself
    WINDOW,  # light of a lit window
    REFLECTION,  # share of what is mirrored
    MIRROR_R, MIRROR_G, MIRROR_B,  # colour that is mirrored, 0 to 1; for sky the sky
    PLACE_U, PLACE_V,  # where in a table a look-up falls
    SHARE_U, SHARE_V,  # and how far between its cells
    SCRATCH_A, SCRATCH_B, SCRATCH_C,
    STRIP_SIZE,
) = range(0, 42 * STRIP, STRIP)  # fmt: skip
LAYER, TAG, INSTANCE, FACTS_SIZE = range(0, 4 * STRIP, STRIP)  # whole numbers, in an array of their own
