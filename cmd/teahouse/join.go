package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

// joinCmd is a room in the terminal, or in JSON for scripts.
type joinCmd struct {
	Room string `arg:"" help:"Name of the room."`
	homeFlags
	networkFlags
	voiceFlags
	jsonFlag
}

// runCmd is a node, and a room if one is given.
type runCmd struct {
	Room string `arg:"" optional:"" help:"Name of the room to join."`
	homeFlags
	networkFlags
	voiceFlags
	jsonFlag
}

func (c *joinCmd) Run(a *app) error {
	t := &talk{app: a, topic: c.Room, home: &c.homeFlags, network: &c.networkFlags, voice: &c.voiceFlags, json: c.JSON, leaveEnds: true}
	if err := t.check(); err != nil {
		return t.fail(err)
	}
	attached, err := t.attach()
	if attached || err != nil {
		return t.fail(err)
	}
	return t.fail(t.run())
}

func (c *runCmd) Run(a *app) error {
	t := &talk{app: a, topic: c.Room, home: &c.homeFlags, network: &c.networkFlags, voice: &c.voiceFlags, json: c.JSON}
	if c.Room == "" {
		for _, flag := range voiceFlagNames {
			if a.given[flag] {
				return t.fail(usage("--%s is for a room: name one, as in `teahouse run ROOM --%s ...`, or leave the flag out", flag, flag))
			}
		}
	}
	if err := t.check(); err != nil {
		return t.fail(err)
	}
	return t.fail(t.run())
}

// The flags that mean nothing to a node that runs already.
var (
	networkFlagNames = append([]string{"network", "listen", "peer", "keep-identity", "transport", "mdns", "wait"}, policyFlagNames...)
	voiceFlagNames   = []string{"mic", "speaker", "mic-after", "process", "gate", "mode", "nick", "listen-only", "muted", "allow-recording", "for", "exit-on-mic-end"}
)

// talk is one `join` or `run` from start to end.
type talk struct {
	app     *app
	topic   string // empty: a node in no room
	home    *homeFlags
	network *networkFlags
	voice   *voiceFlags
	json    bool
	// leaveEnds: the program ends when the room is left by a verb.
	leaveEnds bool
	bootstrap bool

	hub   *hub
	house *house
	views sync.WaitGroup
}

func (t *talk) check() error {
	if err := t.network.check(t.app.given); err != nil {
		return err
	}
	return t.voice.check(t.app.given)
}

// fail prints the error event that scripts read, and passes err on.
func (t *talk) fail(err error) error {
	if err != nil && t.json {
		writeStdout(encode(newError(explain(err), "")))
	}
	return err
}

// run is the whole life of a node: home, devices, network, room, and back.
func (t *talk) run() (err error) {
	a := t.app
	t.hub = newHub()
	log := t.home.logger(a.screen)
	if t.house, err = openHouse(t.home, t.network.Network, t.hub, a.screen, log, a.stop); err != nil {
		return err
	}
	rules, err := t.house.networkRules()
	if err == nil {
		t.house.policy, err = loadPolicy(t.house.dirs, &t.network.policyFlags, rules...)
	}
	if err != nil {
		t.house.close()
		return err
	}
	var devices *sound
	if t.topic != "" {
		if devices, err = openSound(t.voice, a.given, t.hub, log); err != nil {
			t.house.close()
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t.house.leaveEnds = t.leaveEnds
	t.startViews(ctx)
	server, err := t.start(devices)
	if err == nil {
		err = t.stay()
	}
	// Back, in the order in which others see it: the room, then the network.
	if server != nil {
		server.stopAccepting()
	}
	t.house.close()
	t.hub.close()
	if server != nil {
		server.close()
	}
	t.awaitViews(cancel)
	return err
}

// start goes onto the network, opens the control socket and joins the room.
// It takes over devices in any case.
func (t *talk) start(devices *sound) (*control, error) {
	h := t.house
	if err := h.startNode(t.app.ctx, t.network, t.bootstrap); err != nil {
		if devices != nil {
			devices.close()
		}
		if t.app.ctx.Err() != nil {
			return nil, nil // ended by a signal meanwhile; stay sees it too
		}
		return nil, err
	}
	server, err := openControl(h)
	if err != nil {
		if devices != nil {
			devices.close()
		}
		return nil, err
	}
	if devices == nil {
		return server, nil
	}
	if devices.notice != "" {
		t.app.screen.println(devices.notice)
	}
	if _, err = h.enter(t.app.ctx, t.topic, t.voice, devices); t.app.ctx.Err() != nil {
		err = nil // as above
	}
	return server, err
}

// sayAlone is how long nobody may be met before people are told: over 2 s, in
// which a node far away answers.
const sayAlone = 5 * time.Second

// stay waits for the reason to end, and makes an error of those that are one.
func (t *talk) stay() error {
	a := t.app
	var ended <-chan struct{}
	var micEnded <-chan error
	var over, micOver, tooLate <-chan time.Time
	st := t.house.current()
	if st != nil {
		ended, micEnded = st.ended, st.micEnded
	}
	if t.voice.For > 0 {
		over = time.After(t.voice.For)
	}
	var met, alone <-chan time.Time
	if t.network.Wait > 0 || t.house.starters > 0 {
		poll := time.NewTicker(100 * time.Millisecond)
		defer poll.Stop()
		met = poll.C
	}
	if t.network.Wait > 0 {
		deadline := time.NewTimer(t.network.Wait)
		defer deadline.Stop()
		tooLate = deadline.C
	}
	if t.house.starters > 0 {
		patience := time.NewTimer(sayAlone)
		defer patience.Stop()
		alone = patience.C
	}
	for {
		select {
		case <-a.ctx.Done():
			return t.stopped(context.Cause(a.ctx))
		case <-over:
			return nil
		case err := <-micEnded:
			if err != nil {
				t.hub.publish(newError(wrap(err, exitAudio, "device", "the microphone has failed (%v): nobody hears you until you join again", err), st.id.String()))
			} else if t.voice.ExitOnMicEnd {
				micOver = time.After(time.Second)
			}
		case <-micOver:
			return nil
		case <-met:
			if t.house.met() {
				tooLate, met, alone = nil, nil, nil
			}
		case <-alone:
			who := "no bootstrap of the network"
			if len(t.network.Peer) > 0 {
				who = "no node named with --peer"
			}
			t.hub.publish(newError(fail(exitNetwork, "network", "%s answers yet: trying on, less and less often up to once a minute", who), ""))
		case <-tooLate:
			return fail(exitNetwork, "network", "no other node of the network %q was met within %v: check --network and --peer, and that a node runs there", t.house.networkName, t.network.Wait)
		case <-ended:
			if err := st.room.Err(); err != nil || t.leaveEnds {
				return err // the room has put us out
			}
			// A verb has left the room, and the node goes on.
			ended, micEnded, over, micOver = nil, nil, nil, nil
		}
	}
}

// stopped is what a reason to stop means for the exit code.
func (t *talk) stopped(cause error) error {
	if errors.Is(cause, errSignal) || errors.Is(cause, errAsked) {
		return nil
	}
	return cause
}
