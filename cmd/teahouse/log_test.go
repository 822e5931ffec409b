package main

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/libp2p/go-libp2p/gologshim"
)

// What libp2p logs has addresses of peers in it: it is for --log-level debug
// alone. Not in parallel: libp2p has one handler for the whole process.
func TestLibp2pIsQuiet(t *testing.T) {
	for level, heard := range map[string]bool{"debug": true, "info": false, "warn": false, "error": false} {
		var out bytes.Buffer
		f := homeFlags{LogLevel: level}
		f.logger(&out)
		gologshim.Logger("test "+level).Log(context.Background(), slog.LevelError, "192.0.2.7 does not answer")
		if got := bytes.Contains(out.Bytes(), []byte("192.0.2.7")); got != heard {
			t.Errorf("--log-level %s: told %v, want %v", level, got, heard)
		}
	}
}
