// The test of ../examples/geofence as one writes it for a rule.
#include "../examples/geofence/geofence.c"
#include "../wasmeval_test.h"

int main(void) {
    we_test_begin(WE_JSON({"lat": 48, "lon": 11, "radius_km": 10}));
    WE_EXPECT(0, "", {"type": "vehicle.position", "key": "k", "vehicle": {"id": "v1"},
                      "lat": 48, "lon": 11});
    WE_EXPECT(1, "{\"vehicle\":\"v1\",\"distance_km\":111.195,\"speed_kmh\":0}",
              {"type": "vehicle.position", "key": "k", "vehicle": {"id": "v1"},
               "lat": 49, "lon": 11});
    WE_EXPECT(0, "", {"type": "vehicle.position", "key": "k", "vehicle": {"id": "v1"},
                      "lat": 49, "lon": 11});
    WE_EXPECT(2, "{\"vehicle\":\"v2\",\"distance_km\":0,\"speed_kmh\":121}",
              {"type": "vehicle.position", "key": "k", "vehicle": {"id": "v2"},
               "lat": 48, "lon": 11, "speed_kmh": 121});
    WE_EXPECT(3, "{\"vehicle\":\"v1\",\"distance_km\":0,\"speed_kmh\":0}",
              {"type": "vehicle.position", "key": "k", "vehicle": {"id": "v1"},
               "lat": 48, "lon": 11});
    return we_test_end();
}
