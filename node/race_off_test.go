//go:build !race

package node

// raceDetector: the race detector is off.
const raceDetector = false
