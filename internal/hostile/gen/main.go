// Command gen writes the corpus of hostile modules and its index.
//
//	go run ./internal/hostile/gen testdata/hostile
package main

import (
	"fmt"
	"os"

	"wasmeval/internal/hostile"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "gen: expected the folder to write to")
		os.Exit(2)
	}
	if err := hostile.Write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
