package sim

import (
	"time"

	"teahouse/node"
)

// NetworkLayer is a scenario of two real nodes that meet on a good path; then
// it gets bad, and person 0 talks for a while with a fixed repair depth, 0 to
// 3, in the window "talk". Voice goes in datagrams or not at all.
func NetworkLayer(path time.Duration, loss Loss, depth int, talk time.Duration) Scenario {
	const begins, settled = time.Second, 2 * time.Second // the depth follows the first reports
	return Scenario{
		Name: "network layer", Seed: 1, People: 2, Ground: Internet, Transport: node.DatagramOnly, Wire: Wire{Delay: path},
		Steps: []Step{
			{0, Join{[]int{0, 1}}},
			{begins, Settle{Within: 10 * time.Second}},
			{begins, SetWires{Wire{Delay: path, Loss: loss}}},
			{begins, Depth{depth}},
			{begins, Talk{[]int{0}}},
			{begins + settled, Mark{"talk"}},
			{begins + settled + talk, Talk{}},
		},
		For: begins + settled + talk + time.Second,
	}
}
