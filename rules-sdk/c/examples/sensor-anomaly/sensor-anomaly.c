// build: clang @../../flags -o sensor-anomaly.wasm sensor-anomaly.c
//
// Watches sensors: code 1 for a value far from what the sensor has shown so far, code 2 for a value
// outside fixed limits.
//
// Mean and variance are kept for the sensor within the event's key. A sensor is quiet until it has
// been seen `warmup` times. Of an event without a key nothing is remembered, so it has code 2 alone.
#include "../../wasmeval.h"

WE_MANIFEST(WE_JSON({
    "description": "sensor values far from their mean (1) or outside limits (2)",
    "match": ["sensor.reading"],
    "fields": [
        {"path": "sensor", "type": "utf8"},
        {"path": "value", "type": "f64"}
    ],
    "params": [
        {"name": "sigmas", "type": "f64", "default": 5,
         "description": "distance from the mean that passes, in standard deviations"},
        {"name": "min_sigma", "type": "f64", "default": 0.2,
         "description": "least standard deviation to assume, in the unit of the value"},
        {"name": "alpha", "type": "f64", "default": 0.1,
         "description": "weight of a new value in the moving mean, 0 to 1"},
        {"name": "warmup", "type": "i64", "default": 8,
         "description": "values of a sensor that pass before it is judged"},
        {"name": "low", "type": "f64", "default": -50,
         "description": "lowest value that passes"},
        {"name": "high", "type": "f64", "default": 150,
         "description": "highest value that passes"}
    ],
    "state": [{"name": "sensors", "kind": "value", "bytes": 24}]
}))

enum { SENSORS };

// sensor is what is kept of one.
typedef struct {
    double mean, variance;
    int64_t seen;
} sensor;

_Static_assert(sizeof(sensor) == 24, "what the manifest says");

static double sigmas, min_sigma, alpha, low, high;
static int64_t warmup;
static char buf[1024];

WE_CONFIGURE(params) {
    return !we_param_f64(params, "sigmas", &sigmas) ||
           !we_param_f64(params, "min_sigma", &min_sigma) ||
           !we_param_f64(params, "alpha", &alpha) || !we_param_i64(params, "warmup", &warmup) ||
           !we_param_f64(params, "low", &low) || !we_param_f64(params, "high", &high) ||
           alpha <= 0 || alpha > 1 || min_sigma < 0;
}

static double clamp(double v, double most) { return v > most ? most : v < -most ? -most : v; }

static void emit(uint32_t row, we_text name, const sensor *s, double value, double sigma) {
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_open(&j, '{');
    we_key(&j, "sensor");
    we_put_str(&j, name);
    we_key(&j, "value");
    we_put_f64(&j, value);
    if (s->seen > 0) {
        we_key(&j, "mean");
        we_put_f64(&j, s->mean);
        we_key(&j, "sigma");
        we_put_f64(&j, sigma);
    }
    we_close(&j, '}');
    we_emit_json(row, &j);
}

// learn moves mean and variance. An outlier moves them no further than the farthest value that
// passes.
static void learn(sensor *s, double value, double off, double most, bool outlier) {
    if (s->seen++ == 0) {
        s->mean = value < low ? low : value > high ? high : value;
        return;
    }
    if (outlier) off = clamp(off, most);
    s->mean += alpha * off;
    s->variance = (1 - alpha) * (s->variance + alpha * off * off);
}

static int32_t judge(uint32_t row, we_text name, double value) {
    sensor s = {0};
    we_get(SENSORS, row, name, &s, sizeof s);
    double sigma = __builtin_sqrt(s.variance);
    if (sigma < min_sigma) sigma = min_sigma;
    double off = value - s.mean, most = sigmas * sigma;
    bool judged = s.seen > 0 && s.seen >= warmup;
    int32_t code = value < low || value > high ? 2 : judged && (off > most || off < -most);
    if (code) emit(row, name, &s, value, sigma);
    learn(&s, value, off, most, judged || code == 2);
    we_set(SENSORS, row, name, &s, sizeof s);
    return code;
}

WE_EVALUATE(b) {
    const we_column *name = we_col(b, 0), *value = we_col(b, 1);
    for (uint32_t row = 0; row < b->rows; row++)
        if (we_valid(b, name, row) && we_valid(b, value, row))
            we_verdicts(b)[row] = judge(row, we_str(b, name, row), we_f64(b, value, row));
    return 0;
}
