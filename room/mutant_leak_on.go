//go:build mutant_leak

package room

// This file is wrong on purpose. It exists so that the tests that guard names
// are proven able to fail: a build with the tag mutant_leak appends the
// nickname to every beacon in clear and must be caught. Never ship it.

func beaconTrailer(nick string) []byte { return []byte(nick) }

func cutBeaconTrailer(data []byte) []byte { return data[:min(len(data), beaconLen)] }
