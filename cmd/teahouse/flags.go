package main

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"teahouse/internal/audio"
	"teahouse/internal/home"
	"teahouse/node"
	"teahouse/room"
)

// commands is the command line: contract. Each command takes the flags that
// mean something to it; all others are refused.
type commands struct {
	Run       runCmd       `cmd:"" help:"Start a node, and join ROOM if one is given."`
	Join      joinCmd      `cmd:"" help:"Join a room and talk. Anyone who knows its name can join it too."`
	Bootstrap bootstrapCmd `cmd:"" help:"Run a node for others to start from. It hears nothing."`
	Loopback  loopbackCmd  `cmd:"" help:"Hear yourself, as others would: try microphone, speaker and a bad path. Nothing leaves this machine."`
	Network   networkCmd   `cmd:"" help:"Make a network of your own, or become a member of one."`
	Doctor    doctorCmd    `cmd:"" help:"Explain what the policy would do about an address or a peer."`
	Devices   devicesCmd   `cmd:"" help:"List microphones and speakers."`
	ID        idCmd        `cmd:"" name:"id" help:"Show this home's identity."`
	Ctl       ctlCmd       `cmd:"" help:"Steer the node that runs on this home; prints one JSON object."`
	Version   versionCmd   `cmd:"" help:"Show the version."`
}

// homeFlags are understood by every command that has a home.
type homeFlags struct {
	Home     string `placeholder:"DIR" help:"Keep everything in DIR (default: the XDG directories)."`
	LogLevel string `placeholder:"LEVEL" default:"warn" enum:"debug,info,warn,error" help:"What is logged on standard error: debug, info, warn or error."`
}

func (f *homeFlags) dirs() (home.Dirs, error) {
	d, err := home.Locate(f.Home, os.Getenv)
	if err != nil {
		return home.Dirs{}, usage("%v: say where to keep things with --home DIR", err)
	}
	return d, nil
}

func (f *homeFlags) logger(out io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		level = slog.LevelWarn // kong has checked it
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
}

// networkFlags say which network, and how it is reached.
type networkFlags struct {
	Network      string        `placeholder:"NAME" help:"Network to be on (default: the one in the settings, else lan): one of teahouse network list, or any name, and then whoever knows the name is on it."`
	Listen       []string      `placeholder:"ADDR" sep:"none" help:"Multiaddr to listen on, such as /ip4/0.0.0.0/udp/7654/quic-v1; may be repeated."`
	Peer         []string      `placeholder:"ADDR" sep:"none" help:"Node to start from: a multiaddr with /p2p/, or a file with one on each line; may be repeated."`
	KeepIdentity bool          `help:"Keep the same peer id from start to start."`
	Transport    string        `default:"auto" enum:"auto,datagram,quic,tcp" help:"What may carry voice: auto, datagram, quic or tcp."`
	MDNS         string        `name:"mdns" default:"auto" enum:"auto,on,off" help:"Look for nodes on the local network: on or off (default: on for the network lan alone)."`
	Wait         time.Duration `placeholder:"D" help:"Give up with exit code 3 if no other node is met within D, such as 30s."`
	policyFlags
}

func (f *networkFlags) check(given map[string]bool) error {
	if given["network"] {
		if _, err := node.NormaliseNetworkName(f.Network); err != nil {
			return usage("--network %q: %v: give a name such as --network village", f.Network, err)
		}
	}
	if f.Wait < 0 {
		return usage("--wait %v is negative; give a time such as --wait 30s", f.Wait)
	}
	if _, err := node.ParseTransport(f.Transport); err != nil {
		return usage("--transport: %v", err)
	}
	if _, err := f.rules(); err != nil {
		return err
	}
	return nil
}

// voiceFlags say what is heard and said.
type voiceFlags struct {
	Mic            string `placeholder:"SPEC" help:"default, a device's name, file:PATH.wav, loop:PATH.wav, tone:HZ, silence or none."`
	Speaker        string `placeholder:"SPEC" help:"default, a device's name, file:PATH.wav or none. A file is a recording, and everybody in the room sees it."`
	MicAfter       int    `default:"1" placeholder:"N" help:"A file, loop or tone starts once N others can hear it; 0: at once."`
	Process        string `placeholder:"LIST" help:"What is done to the microphone: echo, noise and gain, those you want, with commas between them, or off (default: all for a sound card, off for a file or a tone)."`
	Gate           string `placeholder:"GATE" help:"When the microphone is let through: voice (when somebody speaks), ptt (push to talk: teahouse ctl ptt press) or open (default: voice for a sound card, open for a file or a tone)."`
	Mode           string `default:"standard" enum:"standard,shielded,thrifty,studio" help:"What your packets show, beside whom you talk with, to those who see them and cannot open them. standard: when you are muted, or the key of push to talk is up; not when you speak. shielded: not even that, they flow in the same way whatever you do (10 ms more delay, with push to talk 50; the upload never pauses; needs a microphone). thrifty: when you speak and when you are silent (a third to half less data). studio: as standard, and all in the room hear everything around you: no gate, no cleaning (stereo where the microphone or file is, 64 to 128 kbit/s)."`
	Nick           string `placeholder:"NAME" help:"Name that the people in the room see (default: the one in the settings, else one made of your key)."`
	ListenOnly     bool   `help:"Join without a microphone."`
	Muted          bool   `help:"Join muted."`
	AllowRecording bool   `help:"Others may record what you say."`

	For          time.Duration `placeholder:"D" help:"Leave D after joining, such as 10m."`
	ExitOnMicEnd bool          `help:"Leave 1 s after a file microphone has ended."`
}

func (f *voiceFlags) check(given map[string]bool) error {
	if f.ListenOnly && given["mic"] && f.Mic != "none" {
		return usage("--listen-only and --mic exclude each other: leave one out")
	}
	mic, err := f.micSpec()
	if err != nil {
		return err
	}
	speaker, err := f.speakerSpec()
	if err != nil {
		return err
	}
	if err := speaker.CheckSpeaker(); err != nil {
		return usage("--speaker: %v", err)
	}
	if _, _, err := f.cleaning(mic, speaker); err != nil {
		return err
	}
	if err := f.checkMode(given); err != nil {
		return err
	}
	if mic.Kind == audio.File && speaker.Kind == audio.File && mic.Path == speaker.Path {
		return usage("--mic and --speaker name the same file %s, which would be overwritten: name another for one of them", mic.Path)
	}
	switch {
	case f.MicAfter < 0:
		return usage("--mic-after %d is negative; give the number of people who should hear the microphone", f.MicAfter)
	case given["mic-after"] && mic.Hardware():
		return usage("--mic-after is for microphones that can wait: use it with --mic file:, loop: or tone:")
	case f.ExitOnMicEnd && mic.Kind != audio.File:
		return usage("--exit-on-mic-end needs a microphone that ends: use it with --mic file:PATH.wav")
	case f.For < 0:
		return usage("--for %v is negative; give a time such as --for 10m", f.For)
	}
	return checkNick(f.Nick)
}

func checkNick(nick string) error {
	switch {
	case len(nick) > room.MaxNick:
		return usage("the nickname is %d bytes long; give one of at most %d", len(nick), room.MaxNick)
	case !utf8.ValidString(nick), strings.ContainsFunc(nick, unicode.IsControl):
		return usage("the nickname %q has control characters in it; give plain text", nick)
	case nick != "" && strings.TrimSpace(nick) == "":
		return usage("the nickname is blank; give one that people can see")
	}
	return nil
}

func (f *voiceFlags) micSpec() (audio.Spec, error) {
	if f.ListenOnly {
		return audio.Spec{Kind: audio.None}, nil
	}
	return parseSpec("mic", f.Mic)
}

func (f *voiceFlags) speakerSpec() (audio.Spec, error) { return parseSpec("speaker", f.Speaker) }

func parseSpec(flag, text string) (audio.Spec, error) {
	if text == "" {
		return audio.Spec{}, nil // the default device
	}
	spec, err := audio.ParseSpec(text)
	if err != nil {
		return audio.Spec{}, usage("--%s: %v", flag, err)
	}
	return spec, nil
}

// jsonFlag is a field of its own so that --json reads alike everywhere.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON on standard output, one object on each line."`
}
