//go:build mutant_nonce

package sim

import (
	"strings"
	"testing"
)

// TestMutantIsCaught: a build that uses frame counters again is found by the
// watch on nonces.
func TestMutantIsCaught(t *testing.T) {
	r := Run(t, three(Memory))
	for _, v := range r.Violations {
		if strings.Contains(v.What, "two frames sealed") || strings.Contains(v.What, "behind") {
			return
		}
	}
	t.Errorf("%d seals were watched and nothing was found: %v", r.Sealed, r.Violations)
}
