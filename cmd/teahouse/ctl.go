package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"teahouse/internal/home"
)

// ctlCmd steers a running node.
type ctlCmd struct {
	Status   ctlVerb   `cmd:"" help:"Show the node, its rooms, who is there and how they are reached."`
	Mute     ctlVerb   `cmd:"" help:"Mute the microphone."`
	Unmute   ctlVerb   `cmd:"" help:"Unmute the microphone."`
	Deafen   ctlVerb   `cmd:"" help:"Hear nobody, and mute the microphone."`
	Undeafen ctlVerb   `cmd:"" help:"Hear again; the microphone is as it was before."`
	Volume   ctlVolume `cmd:"" help:"Hear one person louder or softer; this node remembers it."`
	PTT      ctlPTT    `cmd:"" name:"ptt" help:"Press or release the key of push to talk (with --gate ptt)."`
	Mode     ctlMode   `cmd:"" help:"Change what your packets show to those who see them: see join --help."`
	Device   ctlDevice `cmd:"" help:"Go over to another sound card in mid-talk."`
	Leave    ctlVerb   `cmd:"" help:"Leave the room."`
}

type ctlVerb struct {
	Home string `placeholder:"DIR" help:"Home of the node (default: the XDG directories)."`
	Room string `placeholder:"ID|NAME" help:"Room that is meant, where the node is in several."`
}

type ctlVolume struct {
	ctlVerb
	Member string `arg:"" name:"m" help:"Who: the nickname, or 8 or more letters that the member key begins with."`
	Volume string `arg:"" name:"db" help:"Decibels from -60 (silent) to 24, 0 for as they come; or mute, or unmute."`
}

type ctlPTT struct {
	ctlVerb
	Key string `arg:"" enum:"press,release,toggle" help:"press, release or toggle."`
}

type ctlMode struct {
	ctlVerb
	Mode string `arg:"" help:"standard, shielded, thrifty or studio."`
}

type ctlDevice struct {
	ctlVerb
	Device string `arg:"" name:"mic|speaker" help:"mic or speaker."`
	Spec   string `arg:"" name:"name" help:"default, or a device's name: see teahouse devices."`
}

// Run sends the verb and prints the answer: always one JSON object on standard
// output, whatever happens.
func (c *ctlVerb) Run(parsed *kong.Context) error {
	return c.send(request{Verb: parsed.Selected().Name})
}

// Run is as ctlVerb's.
func (c *ctlVolume) Run() error {
	return c.send(request{Verb: "volume", Member: c.Member, Volume: c.Volume})
}

// Run is as ctlVerb's.
func (c *ctlPTT) Run() error { return c.send(request{Verb: "ptt", Key: c.Key}) }

// Run is as ctlVerb's.
func (c *ctlMode) Run() error { return c.send(request{Verb: "mode", Mode: c.Mode}) }

// Run is as ctlVerb's.
func (c *ctlDevice) Run() error {
	return c.send(request{Verb: "device", Device: c.Device, Spec: c.Spec})
}

func (c *ctlVerb) send(q request) error {
	q.Room = c.Room
	r, err := c.ask(q)
	if err != nil {
		r = replyOf(err)
	}
	printJSON(r)
	if !r.OK {
		return &failure{exit: r.Code}
	}
	return nil
}

func (c *ctlVerb) ask(q request) (reply, error) {
	dirs, err := (&homeFlags{Home: c.Home}).dirs()
	if err != nil {
		return reply{}, err
	}
	return ask(dirs, q)
}

// errNoNode: no node runs on the home.
var errNoNode = errors.New("no node runs on this home")

// dial connects to the running node, or answers errNoNode.
func dial(dirs home.Dirs) (net.Conn, error) {
	path := dirs.ControlSocket()
	conn, err := net.DialTimeout("unix", path, controlTimeout)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR) {
		return nil, wrap(errNoNode, exitOther, "no-node", "no node runs on this home: start one with `teahouse join ROOM`, or name its --home")
	}
	if err != nil {
		return nil, wrap(err, exitOther, "control", "the running node cannot be reached at %s (%v): check that it is yours", path, errors.Unwrap(err))
	}
	return conn, nil
}

// ask sends one request and takes one reply.
func ask(dirs home.Dirs, q request) (reply, error) {
	conn, err := dial(dirs)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	r, _, err := exchange(conn, q)
	return r, err
}

// exchange leaves the reader, because events follow a watch.
func exchange(conn net.Conn, q request) (reply, *bufio.Reader, error) {
	lost := func(err error) error {
		return wrap(err, exitOther, "control", "the running node does not answer (%v): try again, or end it and start a new one", err)
	}
	if err := conn.SetDeadline(time.Now().Add(2 * controlTimeout)); err != nil {
		return reply{}, nil, lost(err)
	}
	if err := writeLine(conn, q); err != nil {
		return reply{}, nil, lost(err)
	}
	in := bufio.NewReaderSize(conn, 1<<16)
	text, err := readLine(in)
	if err != nil {
		return reply{}, nil, lost(err)
	}
	var r reply
	if err := json.Unmarshal(text, &r); err != nil {
		return reply{}, nil, lost(err)
	}
	return r, in, conn.SetDeadline(time.Time{})
}

// maxLine is the longest line that a running node sends: a status with a full
// room.
const maxLine = 1 << 20

// readLine reads one line with its end.
func readLine(in *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case err == nil:
			return text, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(text) > maxLine:
			return nil, errors.New("line is too long")
		}
	}
}

func printJSON(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own structs
	}
	fmt.Fprintln(os.Stdout, string(text))
}
