//go:build race

package meshtest

// raced tells that the race detector watches.
const raced = true
