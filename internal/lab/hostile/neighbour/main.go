// Command neighbour is a hostile neighbour as a process of its own, so that it
// can live in a network namespace. It reads an [hostile.Order] as a line of JSON
// from standard input, says {"event":"ready"}, begins at the next line, and
// prints a line of JSON for each attack when that has ended.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"teahouse/internal/lab/hostile"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// result is one line of output.
type result struct {
	Event     string `json:"event"`
	Attack    string `json:"attack"`
	Sent      int    `json:"sent"`
	DroppedMs int64  `json:"dropped_ms"`
	Returned  int    `json:"returned"`
	Answers   int    `json:"answers"`

	Identities    int `json:"identities,omitempty"`
	Streams       int `json:"streams,omitempty"`
	Refused       int `json:"refused,omitempty"`
	Subscriptions int `json:"subscriptions,omitempty"`
	Records       int `json:"records,omitempty"`

	Error string `json:"error,omitempty"`
}

func run() error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20) // what was overheard is long
	if !in.Scan() {
		return errors.Join(errors.New("no order"), in.Err())
	}
	var o hostile.Order
	if err := json.Unmarshal(in.Bytes(), &o); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	target, err := o.Target()
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	fmt.Println(`{"event":"ready"}`)
	if !in.Scan() {
		return errors.Join(errors.New("no word to begin"), in.Err())
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.For)
	defer cancel()
	results := make(chan result, len(o.Attacks))
	var wg sync.WaitGroup
	for _, name := range o.Attacks {
		wg.Go(func() {
			r, err := hostile.Run(ctx, name, o.Bind, target)
			res := result{Event: "attack", Attack: name, Sent: r.Sent, DroppedMs: r.Dropped.Milliseconds(), Returned: r.Returned, Answers: r.Answers}
			res.Identities, res.Streams, res.Refused = r.Identities, r.Streams, r.Refused
			res.Subscriptions, res.Records = r.Subscriptions, r.Records
			if err != nil {
				res.Error = err.Error()
			}
			results <- res
		})
	}
	wg.Wait()
	close(results)
	out := json.NewEncoder(os.Stdout)
	for r := range results {
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
