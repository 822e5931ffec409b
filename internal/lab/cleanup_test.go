//go:build lab

package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// labChildInternet as labChild makes the test binary a lab with an internet.
const labChildInternet = "internet"

const childPlan = "public p delay 1ms\nhome elm nat symmetric delay 1ms jitter 1ms loss 1% ipv6 public\nhost anna in elm\nhome oak nat full-cone\nhost ben in oak\n"

// childMakesInternet is that lab: it says its name, and waits to be killed.
func childMakesInternet() {
	plan, err := ParsePlan("child", childPlan)
	if err == nil {
		var x *Internet
		if x, err = NewInternet(context.Background(), plan, InternetOptions{}); err == nil {
			fmt.Printf("{\"event\":\"ready\",\"name\":%q}\n", x.name)
			time.Sleep(time.Minute)
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// left is what there is of networks whose names begin so: namespaces, their
// files, links of this machine, processes.
func left(t *testing.T, prefix string) (found []string) {
	t.Helper()
	names, err := namespaces(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for name := range names {
		if strings.HasPrefix(name, prefix) {
			found = append(found, "namespace "+name)
		}
	}
	for _, dir := range []string{netnsConf, netnsRun} {
		files, _ := filepath.Glob(filepath.Join(dir, prefix+"*"))
		found = append(found, files...)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		line, _ := os.ReadFile(p) // it may have ended
		if strings.Contains(string(line), prefix) {
			found = append(found, "process "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// links are the names of this machine's interfaces, outside the lab.
func links(t *testing.T) string {
	t.Helper()
	out, err := command(soon(t), "ip", "-brief", "link").Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		names = append(names, strings.Fields(line)[0])
	}
	return strings.Join(names, " ")
}

// descriptors are how many this process has open of TUN devices.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if to, _ := os.Readlink(fd); to == "/dev/net/tun" {
			n++
		}
	}
	return n
}

// Nothing stays: after Close, after a failure at any moment of the making, and,
// once another lab is made, after kill -9.
func TestInternetLeavesNothing(t *testing.T) {
	before := links(t)
	t.Run("closed", func(t *testing.T) {
		x := internet(t, childPlan)
		if len(left(t, x.name+"-")) == 0 || descriptors(t) != 4 {
			t.Fatalf("there is nothing to leave: %v, %d devices", left(t, x.name+"-"), descriptors(t))
		}
		// Somebody is still in a home.
		sleeper := x.Named("anna").Command(t.Context(), "sleep", "60")
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		if err := sleeper.Wait(); err == nil {
			t.Error("a process of the lab lives on")
		}
		if found := left(t, x.name+"-"); found != nil || descriptors(t) != 0 {
			t.Errorf("left after Close: %v, %d devices", found, descriptors(t))
		}
		if err := x.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
	})
	t.Run("failed", func(t *testing.T) {
		plan, err := ParsePlan("test", childPlan)
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		for limit := 2 * time.Millisecond; ; limit = limit * 3 / 2 {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			x, err := NewInternet(ctx, plan, InternetOptions{})
			cancel()
			if err == nil {
				if err := x.Close(); err != nil {
					t.Error(err)
				}
				break
			}
			failures++
			if found := left(t, fmt.Sprintf("%s%dx", netPrefix, os.Getpid())); found != nil || descriptors(t) != 0 {
				t.Fatalf("left after a failure (%v): %v, %d devices", err, found, descriptors(t))
			}
		}
		if failures < 3 {
			t.Errorf("the making was ended %d times: the test tests little", failures)
		}
	})
	t.Run("killed", func(t *testing.T) {
		p := start(t, Spec{Path: os.Args[0], Env: []string{labChild + "=" + labChildInternet}})
		e, err := p.WaitEvent(soon(t), func(e Event) bool { return e.Name == "ready" })
		if err != nil {
			t.Fatal(err)
		}
		name := e.Text("name")
		orphan := exec.CommandContext(t.Context(), "ip", "netns", "exec", name+"-anna", "sleep", "60")
		if err := orphan.Start(); err != nil {
			t.Fatal(err)
		}
		p.Kill()
		if len(left(t, name+"-")) == 0 {
			t.Fatal("kill -9 left nothing: the test tests nothing")
		}
		internet(t, "public p\n")
		if err := orphan.Wait(); err == nil {
			t.Error("a process of a dead lab lives on")
		}
		if found := left(t, name+"-"); found != nil {
			t.Errorf("left after kill -9, and another lab: %v", found)
		}
	})
	if after := links(t); after != before {
		t.Errorf("interfaces of this machine: %s before, %s after", before, after)
	}
}

// Without root there is a sentence, and nothing is touched.
func TestInternetNeedsRoot(t *testing.T) {
	network(t, Bridge) // for the question whether we are root
	dir, err := os.MkdirTemp("", "teahouse-lab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "lab.test")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := copyFile(program, os.Args[0]); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(soon(t), program)
	cmd.Env = append(os.Environ(), labChild+"="+labChildInternet)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err == nil || got != ErrNotRoot.Error() {
		t.Errorf("as nobody: %v, %q", err, got)
	}
}

// copyFile copies a program.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
