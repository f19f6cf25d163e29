// build: GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false -buildmode=c-shared -ldflags='-s -w' -o gojson.wasm .

// Command gojson has bodies that parse and write the event by encoding/json.
package main

import (
	"encoding/json"
	"unsafe"
)

var in [4096]byte

type event struct {
	Type     string   `json:"type"`
	Amount   float64  `json:"amount"`
	Currency string   `json:"currency"`
	Tags     []string `json:"tags"`
	User     struct {
		ID    string `json:"id"`
		Level int    `json:"level"`
	} `json:"user"`
}

func main() {}

//go:wasmexport input
func input() uint32 { return uint32(uintptr(unsafe.Pointer(&in))) }

//go:wasmexport decode
func decode(n int32) int32 {
	var e event
	if err := json.Unmarshal(in[:n], &e); err != nil {
		return -1
	}
	if e.Amount > 1000 && e.Currency == "EUR" && e.User.Level < 5 {
		return 1
	}
	return 0
}

//go:wasmexport encode
func encode(n int32) int32 {
	e := event{Type: "payment", Amount: float64(n) / 4, Currency: "EUR", Tags: []string{"new", "web"}}
	e.User.ID, e.User.Level = "user \"17\"", 3
	b, err := json.Marshal(e)
	if err != nil {
		return -1
	}
	return int32(len(b))
}

//go:wasmexport tree
func tree(n int32) int32 {
	var e map[string]any
	if err := json.Unmarshal(in[:n], &e); err != nil {
		return -1
	}
	return int32(len(e))
}
