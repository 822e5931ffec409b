package voice

import (
	"fmt"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/room"
)

// Mode is how a voice trades privacy, traffic and quality: what somebody learns
// who sees the packets, but cannot open them.
type Mode int32

const (
	// Standard: packets of one length flow while unmuted, or on few links that
	// are short and clean twice as many shorter ones; a gate that is shut
	// by itself sends encoded silence. That somebody is muted, or lets the key
	// of push to talk go, is seen.
	Standard Mode = iota
	// Shielded: packets of one length flow as long as there is a microphone,
	// spoken or not, muted or not; when they leave does not depend on what is
	// said either. It costs 10 ms of delay, and the upload of a voice that
	// never pauses.
	Shielded
	// Thrifty: nothing is sent while nobody speaks, and few packets else. Who
	// speaks when is seen.
	Thrifty
	// Studio: stereo, up to 128 kbit/s, no gate and no processing. What a
	// gate would have left out is heard.
	Studio
)

var modeNames = [...]string{"standard", "shielded", "thrifty", "studio"}

// ParseMode reads standard, shielded, thrifty or studio. The error is one
// sentence.
func ParseMode(text string) (Mode, error) {
	for m, name := range modeNames {
		if text == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("%.20q is no mode; give standard, shielded, thrifty or studio", text)
}

// String is how ParseMode reads it.
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return "none"
	}
	return modeNames[m]
}

// gate is the gate that is used where g was asked for: thrift needs one that
// shuts, a studio has none.
func (m Mode) gate(g audio.GateMode) audio.GateMode {
	switch {
	case m == Studio:
		return audio.GateOpen
	case m == Thrifty && g == audio.GateOpen:
		return audio.GateVoice
	}
	return g
}

// silences tells whether a block in this state of the gate is sent as silence,
// where else nothing would be sent; false: nothing is.
func (m Mode) silences(state audio.GateState) bool {
	switch m {
	case Shielded:
		return true
	case Thrifty:
		return false
	}
	return state == audio.GateSilent
}

// plan is what is encoded: which of the two encodings, and as what.
type plan struct {
	mode    Mode
	on      [2]bool // by flow
	setting [2]codec.Setting
}

const (
	standardRate = 32000
	// thinnerFrom is from how many thin links on their packets are made 60 ms
	// long: then the headers of all together weigh more than 20 ms.
	thinnerFrom = 4
	// lossStep rounds the loss that thin is encoded for up, so that it does not
	// change with each report; percent.
	lossStep = 10
)

// plan is what the links of all rooms together want in this mode. fixed, if
// set, is the base encoding whatever they want.
func (m Mode) plan(f room.Flows, fixed *codec.Setting) plan {
	p := plan{mode: m}
	p.on[room.FlowThin] = f.Thin > 0
	p.on[room.FlowBase] = f.Base > 0 || f.Thin == 0
	switch {
	case fixed != nil:
		p.setting[room.FlowBase] = *fixed
	case m == Thrifty:
		p.setting[room.FlowBase] = codec.Thrifty()
	case m == Studio:
		p.setting[room.FlowBase] = codec.Studio(f.Short, f.Depth)
	default:
		p.setting[room.FlowBase] = codec.Base(f.Short && m == Standard, standardRate)
	}
	if p.on[room.FlowThin] {
		loss := (f.Loss + lossStep - 1) / lossStep * lossStep
		p.setting[room.FlowThin] = codec.Thin(f.Thin >= thinnerFrom, loss)
	}
	return p
}

// join is what the links of two rooms want together.
func join(a, b room.Flows) room.Flows {
	if a.Base+a.Thin == 0 {
		return b
	}
	if b.Base+b.Thin == 0 {
		return a
	}
	return room.Flows{
		Base: a.Base + b.Base, Thin: a.Thin + b.Thin,
		Change: a.Change || b.Change,
		Short:  (a.Short || a.Base == 0) && (b.Short || b.Base == 0) && a.Base+b.Base > 0,
		Depth:  max(a.Depth, b.Depth), Loss: max(a.Loss, b.Loss),
	}
}

// A change of the plan is heard least where nobody speaks. So it waits for a
// pause of changePause, changePatience at most. In Shielded it always waits that
// long, or the moment of the change would tell of the pause.
const (
	changePause    = 50 * time.Millisecond
	changePatience = 2 * time.Second
)
