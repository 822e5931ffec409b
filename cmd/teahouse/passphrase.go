package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"

	"teahouse/internal/home"
)

// Passphrases come from the terminal or from a file, never from arguments or
// the environment, where every process of the machine could read them.

// maxPassphrase is the longest passphrase, bytes.
const maxPassphrase = 1024

// passphraseFlags say where a passphrase for the root key comes from.
type passphraseFlags struct {
	Passphrase     bool   `help:"Ask for a passphrase, under which the root key is kept."`
	PassphraseFile string `placeholder:"FILE" help:"Take the passphrase from the first line of FILE, such as /dev/fd/3."`
}

// choose is a new passphrase, empty for none.
func (f *passphraseFlags) choose(a *app) (string, error) {
	switch {
	case f.PassphraseFile != "":
		return readPassphrase(f.PassphraseFile)
	case !f.Passphrase:
		return "", nil
	}
	first, err := a.askPassphrase("Passphrase for the root key: ")
	if err != nil {
		return "", err
	}
	if first == "" {
		return "", usage("an empty passphrase keeps nothing: leave --passphrase out, or choose one")
	}
	again, err := a.askPassphrase("Once more: ")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", usage("the two passphrases differ: try again")
	}
	return first, nil
}

// unlock is for [home.Networks.RootSeedOf].
func unlock(a *app, file string) func() (string, error) {
	return func() (string, error) {
		if file != "" {
			return readPassphrase(file)
		}
		return a.askPassphrase("Passphrase of the root key: ")
	}
}

func readPassphrase(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", usage("--passphrase-file: %v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPassphrase+1))
	if err != nil {
		return "", usage("--passphrase-file: %v", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > maxPassphrase || !utf8.Valid(line) {
		return "", usage("--passphrase-file %s has no passphrase of up to %d bytes in its first line", path, maxPassphrase)
	}
	return string(line), nil
}

// askPassphrase asks on the terminal, whatever standard input is.
func (a *app) askPassphrase(prompt string) (string, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return "", wrap(err, exitUsage, "usage", "there is no terminal to ask for the passphrase on: give a file with --passphrase-file")
		}
		defer tty.Close()
		fd = int(tty.Fd())
	}
	fmt.Fprint(os.Stderr, prompt)
	line, err := a.readHidden(fd)
	if len(line) > maxPassphrase {
		return "", usage("the passphrase is longer than %d bytes", maxPassphrase)
	}
	return string(line), err
}

// readHidden reads a line from a terminal that does not show it. A signal
// gives the terminal back.
func (a *app) readHidden(fd int) ([]byte, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	type answer struct {
		line []byte
		err  error
	}
	got := make(chan answer, 1)
	go func() { // ends with the line, or with the program
		line, err := term.ReadPassword(fd)
		got <- answer{line, err}
	}()
	select {
	case r := <-got:
		fmt.Fprintln(os.Stderr)
		if errors.Is(r.err, io.EOF) {
			return nil, usage("nothing was typed")
		}
		return r.line, r.err
	case <-a.ctx.Done():
		_ = term.Restore(fd, before)
		fmt.Fprintln(os.Stderr)
		return nil, fail(exitOther, "interrupted", "interrupted: nothing was changed")
	}
}

// rootSentence is a sentence for why there is no root key.
func rootSentence(err error, s *storedNetwork) error {
	if errors.Is(err, home.ErrPassphrase) {
		return wrap(err, exitRefused, "passphrase", "%v: nothing was changed", err)
	}
	if errors.Is(err, os.ErrNotExist) {
		return fail(exitRefused, "network", "the root key of %q is not in this home, and nobody can change the network without it: its founder has it", plain(s.Name))
	}
	return err
}
