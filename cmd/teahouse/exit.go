package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"teahouse/internal/audio"
	"teahouse/internal/home"
	"teahouse/room"
)

// Exit codes: contract.
const (
	exitDone        = 0
	exitOther       = 1
	exitUsage       = 2
	exitNetwork     = 3 // out of reach within --wait
	exitRefused     = 4 // by the room, by policy
	exitAudio       = 5
	exitInterrupted = 130 // second signal
)

// failure is an error as a person sees it: one sentence that names the thing
// and the remedy, the exit code, and a stable word for scripts. This is the
// only place where sentences with remedies are made out of errors.
type failure struct {
	exit     int
	word     string // the code of the error event
	sentence string
	cause    error
}

func (f *failure) Error() string { return f.sentence }
func (f *failure) Unwrap() error { return f.cause }

func fail(exit int, word, format string, args ...any) *failure {
	return &failure{exit: exit, word: word, sentence: fmt.Sprintf(format, args...)}
}

// usage is a wrong command line.
func usage(format string, args ...any) *failure { return fail(exitUsage, "usage", format, args...) }

// explain makes a failure of any error; nil of nil.
func explain(err error) *failure {
	var f *failure
	var path *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case errors.Is(err, home.ErrLocked):
		return wrap(err, exitOther, "locked", "%v: stop that node, look at it with `teahouse join ROOM`, or give this one its own --home", err)
	case errors.Is(err, home.ErrCorrupt):
		return wrap(err, exitOther, "key", "%v, and is left as it is: put a copy back from a backup, or move the file away to begin with a new key", err)
	case errors.Is(err, room.ErrRefused):
		return wrap(err, exitRefused, "refused", "the room does not let you in; ask someone inside")
	case errors.Is(err, room.ErrSuperseded):
		return wrap(err, exitOther, "superseded", "you have joined this room from somewhere newer with the same home, so this one has left; give each node a --home of its own")
	case errors.Is(err, audio.ErrSpec):
		return wrap(err, exitUsage, "usage", "%v", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return wrap(err, exitOther, "port", "%v: stop the program that listens there, or give other addresses with --listen", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return wrap(err, exitOther, "disk", "%v: free some space and start again", err)
	case errors.Is(err, syscall.EROFS):
		return wrap(err, exitOther, "disk", "%v: make it writable, or choose another directory with --home", err)
	case errors.As(err, &path) && errors.Is(err, fs.ErrPermission):
		return wrap(err, exitOther, "permission", "%v: make it yours, or choose another directory with --home", err)
	default:
		return wrap(err, exitOther, "other", "%v", err)
	}
}

func wrap(cause error, exit int, word, format string, args ...any) *failure {
	f := fail(exit, word, format, args...)
	f.cause = cause
	return f
}
