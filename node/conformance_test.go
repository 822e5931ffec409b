package node

import (
	"testing"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// TestConformance runs the suite of the contract over real sockets, each
// network of nodes started from its first.
func TestConformance(t *testing.T) {
	for _, transport := range []Transport{Auto, TCPOnly} {
		t.Run(string(transport), func(t *testing.T) {
			if testing.Short() && transport != Auto {
				t.Skip("short")
			}
			meshtest.Run(t, func(t *testing.T, count int) []mesh.Network {
				return startMesh(t, count, transport)
			})
		})
	}
}

// startMesh starts nodes that know the first of them.
func startMesh(t *testing.T, count int, transport Transport) []mesh.Network {
	t.Helper()
	var nets []mesh.Network
	var first *Node
	for range count {
		cfg := loopback(t)
		cfg.Transport = transport
		if first != nil {
			cfg.Peers = fullAddrs(first)
		}
		n := startNode(t, cfg)
		if first == nil {
			first = n
		}
		nets = append(nets, n)
	}
	for _, n := range nets {
		eventually(t, "the routing table has a peer", func() bool { return count == 1 || n.(*Node).Stats().RoutingTable > 0 })
	}
	return nets
}
