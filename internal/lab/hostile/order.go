package hostile

import (
	"errors"
	"time"

	"teahouse/internal/mesh"
	"teahouse/node"
)

// Order is what a hostile process is told to do, in JSON.
type Order struct {
	Attacks []string
	For     time.Duration
	Bind    string // the IP it comes from

	Peer      []byte // the target's peer id
	Addrs     []mesh.Addr
	Network   string // its name
	Door      []byte
	Overheard [][]byte
	Rate      int
	Crowd     Crowd
}

// Target is who the order means.
func (o *Order) Target() (Target, error) {
	if len(o.Door) != len(mesh.Door{}) {
		return Target{}, errors.New("a door has 32 bytes")
	}
	nw, err := node.AdHocNetwork(o.Network)
	if err != nil {
		return Target{}, err
	}
	return Target{
		Peer: mesh.Peer{ID: mesh.PeerID(o.Peer), Addrs: o.Addrs}, Network: nw,
		Door: mesh.Door(o.Door), Overheard: o.Overheard, Rate: o.Rate, Crowd: o.Crowd,
	}, nil
}
