package sim

import "time"

// ThinUplink is one talker behind a thin uplink, for forty seconds.
type ThinUplink struct {
	Uplink    Uplink
	Listeners int
	Loss      float64 // on every way, each packet by itself, 0 to 1
	// Upload begins a TCP over the same uplink five seconds after the talk, to
	// somewhere 40 ms away.
	Upload bool
}

// thinPath is the one-way delay of each path.
const thinPath = 20 * time.Millisecond

// Scenario is to be played on the simulated internet. What counts is said
// after the first nine seconds, when reports have come and the TCP is there.
func (u ThinUplink) Scenario() Scenario {
	all := make([]int, u.Listeners+1)
	for i := range all {
		all[i] = i
	}
	steps := []Step{
		{0, Join{all}},
		{time.Second, Settle{Within: 10 * time.Second}},
		{time.Second, SetWires{Wire{Delay: thinPath, Loss: Loss{Rate: u.Loss}}}},
		{time.Second, SetUplink{0, u.Uplink}},
		{time.Second, Talk{[]int{0}}},
	}
	if u.Upload {
		steps = append(steps, Step{6 * time.Second, Upload{Who: 0, RTT: 2 * thinPath}})
	}
	return Scenario{
		Name: "thin uplink", Seed: 1, People: u.Listeners + 1, Ground: Internet, Wire: Wire{Delay: thinPath},
		Steps: append(steps,
			Step{10 * time.Second, Mark{"talk"}},
			Step{40 * time.Second, Talk{}},
			Step{41 * time.Second, Upload{Who: 0}},
			Step{41 * time.Second, Settle{Within: 20 * time.Second}},
		),
		For: 42 * time.Second,
	}
}

// ThinFigures is what was heard over a thin uplink.
type ThinFigures struct {
	Frames   int           `json:"frames"`   // expected, of all listeners
	Lost     float64       `json:"lost"`     // part of them, 0 to 1; in-band FEC is not looked at
	Thin     float64       `json:"thin"`     // part of them that came in the thin flow
	Late     time.Duration `json:"late"`     // 95 of 100 first copies took less, beyond the path
	Uploaded int           `json:"uploaded"` // bits per second of the TCP
}

// Figures are those of a result of the scenario.
func (u ThinUplink) Figures(r *Result) ThinFigures {
	h, first, _ := r.Window("talk").All()
	return ThinFigures{
		Frames: h.Expected, Lost: float64(h.Lost) / float64(max(h.Expected, 1)), Thin: float64(h.Thin) / float64(max(h.Expected, 1)),
		Late: first.Quantile(0.95) - thinPath, Uploaded: r.Uploaded[0] * 8 / 35,
	}
}
