package mesh_test

import (
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

func memory(cfg mesh.MemoryConfig) meshtest.New {
	return func(_ *testing.T, n int) []mesh.Network {
		m := mesh.NewMemory(cfg)
		nets := make([]mesh.Network, n)
		for i := range nets {
			nets[i] = m.Node(nil)
		}
		return nets
	}
}

func TestMemoryConforms(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  mesh.MemoryConfig
	}{
		{"perfect", mesh.MemoryConfig{Seed: 1}},
		{"slow and lossy", mesh.MemoryConfig{Seed: 2, Wire: mesh.Wire{
			Latency: 40 * time.Millisecond, Jitter: 30 * time.Millisecond, Loss: 0.2, Double: 0.05,
		}}},
	} {
		t.Run(c.name, func(t *testing.T) { meshtest.RunIn(t, meshtest.Bubble, memory(c.cfg)) })
	}
}

// In real time goroutines meet in other ways than inside a bubble.
func TestMemoryConformsInRealTime(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 s")
	}
	meshtest.Run(t, memory(mesh.MemoryConfig{Seed: 3, Wire: mesh.Wire{Latency: time.Millisecond, Jitter: time.Millisecond}}))
}
