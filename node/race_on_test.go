//go:build race

package node

// raceDetector: the race detector is on, and virtual time costs ten times as
// much.
const raceDetector = true
