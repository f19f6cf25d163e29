// Command wasmeval is the server and its command line: one file a verb, the configuration in
// config.go and yaml.go, the HTTP client of the verbs in client.go.
//
//	wasmeval serve --config wasmeval.yaml
//	wasmeval check --config wasmeval.yaml --print
//	wasmeval rules push payment-limit payment-limit.wasm --param limit=500
//	wasmeval send events.ndjson --rate 1000
//	wasmeval tail --rule 'payment-*'
//	wasmeval bench http
//
// This package may import every other one; none imports it. cobra gives the verbs, flags and help;
// yaml.v3 the lines of a configuration file; hdrhistogram-go the latencies of bench.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
