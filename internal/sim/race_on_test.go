//go:build race

package sim

// raceEnabled: the detector makes everything some ten times slower.
const raceEnabled = true
