// build: clang @../../flags -o geofence.wasm geofence.c
//
// Watches vehicles: code 1 when one leaves a circle on the map, code 3 when it comes back, and code 2
// for each position inside that is over the speed limit.
//
// Where a vehicle was last is kept for its id within the event's key. Of an event without a key
// nothing is remembered: each of its positions outside has code 1.
#include "../../wasmeval.h"

WE_MANIFEST(WE_JSON({
    "description": "vehicles that leave a circle (1), come back (3), or are too fast inside it (2)",
    "match": ["vehicle.position"],
    "fields": [
        {"path": "lat", "type": "f64"},
        {"path": "lon", "type": "f64"},
        {"path": "speed_kmh", "type": "f64"},
        {"path": "vehicle.id", "type": "utf8"}
    ],
    "params": [
        {"name": "lat", "type": "f64", "default": 48.137,
         "description": "latitude of the circle's centre, degrees"},
        {"name": "lon", "type": "f64", "default": 11.575,
         "description": "longitude of the circle's centre, degrees"},
        {"name": "radius_km", "type": "f64", "default": 25,
         "description": "radius of the circle"},
        {"name": "max_kmh", "type": "f64", "default": 120,
         "description": "highest speed that passes"}
    ],
    "state": [{"name": "outside", "kind": "value", "bytes": 1}]
}))

enum { LAT, LON, SPEED, VEHICLE };
enum { OUTSIDE };
enum { LEFT = 1, TOO_FAST, CAME_BACK };

static const double km_per_degree = 111.195, radians_per_degree = 0.017453292519943295;

static struct { double lat, lon, km_per_lon, radius, max_kmh; } fence;
static char buf[1024];

// cosine is right to nine digits within a quarter turn of 0, which latitudes are.
static double cosine(double x) {
    double sum = 1, term = 1;
    for (int n = 1; n < 10; n++) {
        term *= -x * x / (2 * n * (2 * n - 1));
        sum += term;
    }
    return sum;
}

WE_CONFIGURE(params) {
    if (!we_param_f64(params, "lat", &fence.lat) || !we_param_f64(params, "lon", &fence.lon) ||
        !we_param_f64(params, "radius_km", &fence.radius) ||
        !we_param_f64(params, "max_kmh", &fence.max_kmh))
        return 1;
    // Not right near the poles and for circles of more than some hundred kilometres.
    fence.km_per_lon = km_per_degree * cosine(fence.lat * radians_per_degree);
    return fence.radius <= 0 || fence.lat < -85 || fence.lat > 85;
}

static double distance(double lat, double lon) {
    double y = (lat - fence.lat) * km_per_degree, x = lon - fence.lon;
    if (x > 180) x -= 360;
    if (x < -180) x += 360;
    x *= fence.km_per_lon;
    return __builtin_sqrt(x * x + y * y);
}

static void emit(const we_batch *b, uint32_t row, double km, double kmh) {
    const we_column *vehicle = we_col(b, VEHICLE);
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_open(&j, '{');
    if (we_valid(b, vehicle, row)) {
        we_key(&j, "vehicle");
        we_put_str(&j, we_str(b, vehicle, row));
    }
    we_key(&j, "distance_km");
    if (km < 0) we_put_null(&j);
    else we_put_f64(&j, (double)(int64_t)(km * 1000 + 0.5) / 1000); // to the metre
    we_key(&j, "speed_kmh");
    we_put_f64(&j, kmh);
    we_close(&j, '}');
    we_emit_json(row, &j);
}

// passed keeps on which side of the fence the vehicle is, and gives the code if it has changed.
static int32_t passed(uint32_t row, we_text vehicle, bool outside) {
    char is = outside, was = 0; // one that was never seen was inside
    we_get(OUTSIDE, row, vehicle, &was, 1);
    if (is == was) return 0;
    we_set(OUTSIDE, row, vehicle, &is, 1);
    return outside ? LEFT : CAME_BACK;
}

WE_EVALUATE(b) {
    const we_column *lat = we_col(b, LAT), *lon = we_col(b, LON), *speed = we_col(b, SPEED);
    for (uint32_t row = 0; row < b->rows; row++) {
        double km = -1, kmh = we_f64(b, speed, row);
        int32_t code = 0;
        if (we_valid(b, lat, row) && we_valid(b, lon, row)) {
            km = distance(we_f64(b, lat, row), we_f64(b, lon, row));
            code = passed(row, we_str(b, we_col(b, VEHICLE), row), km > fence.radius);
        }
        if (code == 0 && km <= fence.radius && kmh > fence.max_kmh) code = TOO_FAST;
        if (code == 0) continue;
        emit(b, row, km, kmh);
        we_verdicts(b)[row] = code;
    }
    return 0;
}
