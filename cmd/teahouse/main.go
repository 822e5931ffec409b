// Command teahouse is a node of the Teahouse mesh: people join a room by its
// name and talk, with no server between them.
//
// Wiring only: flags.go what may be asked, exit.go what is said when it does
// not work, join.go one run from start to end, house.go and seat.go what runs,
// events.go and hub.go what is told to scripts, people.go and screen.go to
// people, loopback.go what somebody hears of themselves, verbs.go, control.go
// and ctl.go what others may ask of it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"
)

func main() {
	// A core dump would hold keys and voices.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	os.Exit(run(os.Args[1:]))
}

// app is one run of the program.
type app struct {
	ctx    context.Context // ends with the first signal, or when a verb asks
	stop   context.CancelCauseFunc
	given  map[string]bool // flags on the command line, by name
	screen *screen

	mu   sync.Mutex
	keys *keyboard // to be restored however the program ends
}

func run(args []string) int {
	a := &app{screen: newScreen(os.Stderr), given: map[string]bool{}}
	a.ctx, a.stop = context.WithCancelCause(context.Background())
	defer a.stop(nil)
	defer a.restore()

	var cli commands
	exited := -1
	parser, err := kong.New(&cli,
		kong.Name("teahouse"),
		kong.Description("Talk in rooms, from machine to machine. `teahouse join tea` joins the room tea."),
		kong.UsageOnError(), // only its layout; errors are printed below
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Writers(os.Stdout, os.Stderr),
		kong.Exit(func(code int) { exited = code; panic(helpShown{}) }),
	)
	if err != nil {
		panic(err) // the grammar is wrong: a mistake of ours
	}
	parsed, err := parse(parser, numbers(args))
	switch {
	case exited >= 0:
		return exitDone // --help
	case err != nil:
		return a.report(usage("%v", usageText(err, args)))
	}
	for _, p := range parsed.Path {
		if p.Flag != nil {
			a.given[p.Flag.Name] = true
		}
	}
	stopSignals := a.catchSignals()
	code := exitDone
	if err := parsed.Run(a); err != nil {
		code = a.report(err)
	}
	if stopSignals() > 1 {
		return exitInterrupted
	}
	return code
}

// numbers gives arguments like -6 a minus sign that is not the hyphen of a
// flag: no flag begins with a digit.
func numbers(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		if len(arg) > 1 && arg[0] == '-' && (arg[1] == '.' || arg[1] >= '0' && arg[1] <= '9') {
			args[i] = minus + arg[1:]
		}
	}
	return args
}

const minus = "\u2212"

// helpShown unwinds kong after --help.
type helpShown struct{}

func parse(parser *kong.Kong, args []string) (parsed *kong.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(helpShown); !ok {
				panic(r)
			}
		}
	}()
	return parser.Parse(args)
}

// usageText is kong's error as one sentence with the remedy.
func usageText(err error, args []string) string {
	text := strings.TrimSuffix(err.Error(), ".")
	switch {
	case len(args) == 0:
		return "say what to do, such as `teahouse join ROOM`; `teahouse --help` lists everything"
	case strings.HasPrefix(text, `expected "<room>"`):
		return "name a room, as in `teahouse join tea`"
	}
	command := "teahouse"
	if known := commandNames(); known[args[0]] {
		command += " " + args[0]
	}
	if strings.HasSuffix(text, "?") { // did you mean ...?
		return fmt.Sprintf("%s See `%s --help`", text, command)
	}
	return fmt.Sprintf("%s; see `%s --help`", text, command)
}

func commandNames() map[string]bool {
	names := map[string]bool{}
	for field := range reflect.TypeFor[commands]().Fields() {
		names[strings.ToLower(field.Name)] = true
	}
	return names
}

// report tells a person why it did not work and gives the exit code.
func (a *app) report(err error) int {
	a.restore()
	f := explain(err)
	if f.sentence != "" { // else it is on standard output already
		a.screen.println("teahouse: " + f.sentence)
	}
	return f.exit
}

// catchSignals makes the first signal end the program in an orderly way and
// the second end it at once. stop tells how many there were.
func (a *app) catchSignals() (stop func() int) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// A closed pipe is an error of its write, not the end of the talk.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	quit, done := make(chan struct{}), make(chan struct{})
	seen := 0
	go func() {
		defer close(done)
		defer a.guard()
		for {
			select {
			case <-quit:
				return
			case <-broken:
			case <-signals:
				if seen++; seen > 1 {
					a.restore()
					os.Exit(exitInterrupted)
				}
				a.stop(errSignal)
			}
		}
	}()
	return func() int {
		signal.Stop(signals) // what was sent before is in the channel now
		signal.Stop(broken)
		close(quit)
		<-done
		return seen + len(signals)
	}
}

// restore gives the terminal back as it was found.
func (a *app) restore() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys.restore()
	a.screen.setBottom("")
}

// guard, deferred by every goroutine of this package that runs while keys are
// taken, gives the terminal back before a panic ends the program.
func (a *app) guard() {
	if r := recover(); r != nil {
		a.restore()
		fmt.Fprintf(os.Stderr, "teahouse: this is a mistake in the program, please report it: %v\n%s", r, debug.Stack())
		os.Exit(exitOther)
	}
}
