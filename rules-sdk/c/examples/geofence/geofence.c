// build: clang @../../flags -o geofence.wasm geofence.c
//
// Watches vehicles: code 1 outside a circle on the map, code 2 over the speed limit inside it.
#include "../../wasmeval.h"

WE_MANIFEST("{\"description\":\"vehicles outside a circle (1) or over the speed limit (2)\","
            "\"match\":[\"vehicle.position\"],"
            "\"fields\":["
            "{\"path\":\"lat\",\"type\":\"f64\"},"
            "{\"path\":\"lon\",\"type\":\"f64\"},"
            "{\"path\":\"speed_kmh\",\"type\":\"f64\"},"
            "{\"path\":\"@key\",\"type\":\"utf8\"}],"
            "\"params\":["
            "{\"name\":\"lat\",\"type\":\"f64\",\"default\":48.137,"
            "\"description\":\"latitude of the circle's centre, degrees\"},"
            "{\"name\":\"lon\",\"type\":\"f64\",\"default\":11.575,"
            "\"description\":\"longitude of the circle's centre, degrees\"},"
            "{\"name\":\"radius_km\",\"type\":\"f64\",\"default\":25,"
            "\"description\":\"radius of the circle\"},"
            "{\"name\":\"max_kmh\",\"type\":\"f64\",\"default\":120,"
            "\"description\":\"highest speed that passes\"}]}")

enum { LAT, LON, SPEED, KEY };

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
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_open(&j, '{');
    if (we_valid(b, we_col(b, KEY), row)) {
        we_key(&j, "vehicle");
        we_put_str(&j, we_str(b, we_col(b, KEY), row));
    }
    we_key(&j, "distance_km");
    if (km < 0) we_put_null(&j);
    else we_put_f64(&j, km);
    we_key(&j, "speed_kmh");
    we_put_f64(&j, kmh);
    we_close(&j, '}');
    we_emit_json(row, &j);
}

WE_EVALUATE(b) {
    const we_column *lat = we_col(b, LAT), *lon = we_col(b, LON), *speed = we_col(b, SPEED);
    for (uint32_t row = 0; row < b->rows; row++) {
        double km = -1, kmh = we_f64(b, speed, row);
        if (we_valid(b, lat, row) && we_valid(b, lon, row))
            km = distance(we_f64(b, lat, row), we_f64(b, lon, row));
        int32_t code = km > fence.radius ? 1 : kmh > fence.max_kmh ? 2 : 0;
        if (code == 0) continue;
        emit(b, row, km, kmh);
        we_verdicts(b)[row] = code;
    }
    return 0;
}
