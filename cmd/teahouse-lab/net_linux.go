package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"teahouse/internal/lab"
)

// Run makes it, says what is where, waits, and removes it.
func (c *netCommand) Run(ctx context.Context) error {
	return c.run(ctx, os.Stdout, os.Stderr)
}

func (c *netCommand) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	if c.For < 0 {
		return fmt.Errorf("%w: --for %v is in the past", errUsage, c.For)
	}
	plan, err := lab.LoadPlan(c.Topology)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	internet, err := lab.NewInternet(ctx, plan, lab.InternetOptions{LeaveSignals: true})
	if errors.Is(err, lab.ErrNotRoot) {
		return fmt.Errorf("%w: sudo teahouse-lab net %s", err, c.Topology)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, internet.Close()) }()

	ready := netReady{Event: "ready"}
	add := func(name, what string) {
		h := internet.Named(name)
		row := netHost{Name: name, What: what, Address: h.Addr().String(), Namespace: h.Namespace()}
		if h.Addr6().IsValid() {
			row.IPv6 = h.Addr6().String()
		}
		ready.Hosts = append(ready.Hosts, row)
	}
	for _, s := range plan.Sites {
		add(s.Name, s.String())
		for _, h := range s.Hosts {
			add(h, "host "+h+" in "+s.Name)
		}
	}
	if c.JSON {
		err = json.NewEncoder(stdout).Encode(ready)
	} else {
		_, err = io.WriteString(stdout, ready.table())
	}
	if err != nil {
		return fmt.Errorf("say what is where: %w", err)
	}
	if c.For > 0 {
		fmt.Fprintf(stderr, "It stays for %v, or until a signal.\n", c.For)
		wait, cancel := context.WithTimeout(ctx, c.For)
		defer cancel()
		ctx = wait
	} else {
		fmt.Fprintln(stderr, "It stays until a signal (Ctrl-C).")
	}
	<-ctx.Done()
	for _, s := range plan.Sites {
		if up, down, ok := internet.Line(s.Name); ok {
			fmt.Fprintf(stderr, "%s: %d packets up and %d down, %d lost in bursts, %d refused\n", s.Name, up.Passed, down.Passed, up.Lost+down.Lost, up.Refused+down.Refused)
		}
	}
	if cpu, err := internet.ShimCPU(); err == nil && cpu > 0 {
		fmt.Fprintf(stderr, "delaying took %v of CPU time\n", cpu.Round(time.Millisecond))
	}
	return nil
}
