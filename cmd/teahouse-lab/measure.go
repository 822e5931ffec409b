package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cost is what one call of a function takes.
type cost struct {
	time   time.Duration // CPU time; the median of rounds
	allocs float64
}

// costOf calls f over and over for about d, on one thread. The time is the CPU
// time of that thread, which other processes lengthen only by the caches they
// empty, and the median of ten rounds, which a disturbed round does not move;
// allocations are counted over all of them.
func costOf(d time.Duration, f func()) cost {
	const rounds = 10
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	n := 1
	for { // how many calls make a round
		started := time.Now()
		for range n {
			f()
		}
		if took := time.Since(started); took >= d/rounds/2 {
			n = max(1, int(float64(n)*float64(d/rounds)/float64(took)))
			break
		}
		n *= 2
	}
	var before, after runtime.MemStats
	var took [rounds]time.Duration
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range took {
		started := threadTime()
		for range n {
			f()
		}
		took[i] = threadTime() - started
	}
	runtime.ReadMemStats(&after)
	return cost{
		time: median(took[:]) / time.Duration(n),
		// Whole allocations: what the runtime itself does now and then in so
		// many calls is not the function's.
		allocs: float64((after.Mallocs - before.Mallocs) / uint64(n*rounds)),
	}
}

// threadTime is the CPU time that this thread has used.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // POSIX.1-2008 has this clock
	}
	return time.Duration(t.Nano())
}

// processUse is what a process has used so far.
type processUse struct {
	cpu time.Duration // of all threads that live, user and system
	rss uint64        // bytes
}

// useOf reads what the process pid uses, on Linux. The CPU time is that of
// the scheduler in nanoseconds (schedstat), as the ticks of stat are too
// coarse for an idle process.
func useOf(pid int) (processUse, error) {
	var use processUse
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*", "schedstat"))
	if err != nil || len(threads) == 0 {
		return use, fmt.Errorf("process %d has ended, or this system has no schedstat", pid)
	}
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // this thread has just ended
		}
		if err != nil {
			return use, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseUint(first, 10, 63)
		if err != nil {
			return use, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		use.cpu += time.Duration(ns)
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return use, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 50)
			if err != nil {
				return use, fmt.Errorf("memory of process %d: %w", pid, err)
			}
			use.rss = kib << 10
		}
	}
	if use.rss == 0 {
		return use, fmt.Errorf("memory of process %d: none is shown", pid)
	}
	return use, nil
}

// median is the middle value, the upper one of two. It changes nothing in all.
func median[T cmp.Ordered](all []T) T {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
