//go:build !linux

package main

// memoryBytes is 0: it is not known.
func memoryBytes() uint64 { return 0 }
