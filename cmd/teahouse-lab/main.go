// Command teahouse-lab measures Teahouse: each figure that the documents
// speak of is a benchmark here, remade by one command.
//
//	teahouse-lab bench [NAME...] [--json] [--out DIR]
//	teahouse-lab soak [--for 20m] [--json]
//	teahouse-lab churn [--hours N] [--seed S] [--members N] [--json]
//	teahouse-lab voice [--loss P] [--burst D] [--jitter D] [--path D] [--drift PPM] [--depth auto|0..3] [--seed S] | --all
//	teahouse-lab net TOPOLOGY [--for D] [--json]
//
// Results go to standard output, everything for people to standard error.
// Exit codes: 0 done, 2 usage, 1 a benchmark could not be run, a figure that
// does not depend on the machine is over its budget, or something happened
// that must never happen.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commandLine struct {
	Bench benchCommand `cmd:"" help:"Measure: all figures, or those of the benchmarks named."`
	Soak  soakCommand  `cmd:"" help:"Let people come and go for a long time, and say whether what a node takes stays flat."`
	Churn churnCommand `cmd:"" help:"Play random lives of a room in virtual time, and watch what must never happen."`
	Voice voiceCommand `cmd:"" help:"Let a recorded voice travel over a bad path in virtual time, and say how it sounds."`
	Net   netCommand   `cmd:"" help:"Make an internet of public hosts and homes behind routers, in network namespaces (root), until a signal."`
	// The other half of an idle node's comparison, a process of its own.
	BareHost bareHostCommand `cmd:"" hidden:"" name:"bare-host"`
	// What plays for the benchmark simulated, a process of its own too.
	Simulated simulatedCommand `cmd:"" hidden:""`
	// And for churn.
	ChurnPlay churnPlayCommand `cmd:"" hidden:"" name:"churn-play"`
	// And for the thin uplinks of voice.
	UplinkPlay uplinkPlayCommand `cmd:"" hidden:"" name:"uplink-play"`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	var cli commandLine
	parser, err := kong.New(&cli, kong.Name("teahouse-lab"),
		kong.Description("Measures Teahouse."), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "teahouse-lab:", err)
		return 1
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "teahouse-lab:", err)
		return 2
	}
	switch err := command.Run(); {
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "teahouse-lab:", err)
		return 2
	case err != nil:
		fmt.Fprintln(os.Stderr, "teahouse-lab:", err)
		return 1
	}
	return 0
}
