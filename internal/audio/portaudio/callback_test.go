//go:build linux && amd64

package portaudio

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// calls is all that the callback may use of what is not in this package: the
// ring is copied, the time is read, and Go is woken through a descriptor that
// does not block.
var calls = []string{"memcpy", "memset", "clock_gettime", "write", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}

// opens is all that th_open may use beside, on the caller's thread. A callback
// from elsewhere (Go, say) would be a name of its own here.
var opens = append([]string{
	"calloc", "free", "Pa_OpenStream", "Pa_GetStreamInfo", "Pa_SetStreamFinishedCallback", "Pa_StartStream", "Pa_CloseStream",
}, calls...)

// The callback, and what it calls, allocates nothing, takes no lock, enters
// neither Go nor the kernel but to wake, and waits in no loop: shown on the
// machine code that the compiler makes of the C files here, since nothing else
// tells what a line of C becomes.
//
// The mutants show that the test fails where one of these is added.
func TestCallback(t *testing.T) {
	sources := map[string]string{}
	names, err := filepath.Glob("*.c")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources[name] = string(text)
	}
	found, walked := inspect(t, sources)
	for _, problem := range found {
		t.Error(problem)
	}
	// No stream is opened in another way: the Go binding's callbacks are Go.
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") && regexp.MustCompile(`\bpa\.Open`).Match(text) {
			t.Errorf("%s opens a stream of its own", name)
		}
	}
	// The walk went where it should.
	for _, name := range []string{"callback", "finished", "th_wake", "th_now"} {
		if !slices.Contains(walked, name) {
			t.Errorf("%s was not looked at, only %v", name, walked)
		}
	}

	const inCallback, inWake, asCallback = "int64_t now = th_now();\n\tint64_t whole", "const uint64_t one = 1;", ", callback, s);"
	for _, m := range []struct {
		name, file, at string
		decl, code     string // what is put before the functions, and at that place
		want           string // part of what is found
	}{
		{"allocates", "stream.c", inCallback, "", "void *volatile mutant = malloc(frames); free(mutant);", "malloc"},
		{"locks", "stream.c", inCallback, "#include <pthread.h>\nstatic pthread_mutex_t mutant = PTHREAD_MUTEX_INITIALIZER;\n", "pthread_mutex_lock(&mutant);", "pthread_mutex_lock"},
		{"prints", "stream.c", inCallback, "#include <stdio.h>\n", `printf("%lu\n", frames);`, "printf"},
		{"calls Go", "stream.c", inCallback, "extern void goMutant(void);\n", "goMutant();", "goMutant"},
		{"calls what it is told to", "stream.c", inCallback, "void (*volatile th_mutant)(void);\n", "th_mutant();", "indirect"},
		{"waits for a lock of its own", "stream.c", inCallback, "static atomic_flag mutant;\n", "while (atomic_flag_test_and_set(&mutant)) {}", "loop"},
		{"enters the kernel", "stream.c", inCallback, "", `__asm__ volatile("syscall" ::: "rax", "rcx", "r11", "memory");`, "syscall"},
		{"prints where it wakes", "wake.c", inWake, "", `fprintf(stderr, "%d", fd);`, "fprintf"},
		{"is Go", "stream.c", asCallback, "extern PaStreamCallback goMutant;\n", ", s ? goMutant : callback, s);", "goMutant"},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			source := sources[m.file]
			if strings.Count(source, m.at) != 1 {
				t.Fatalf("%s has changed: no place for the mutant", m.file)
			}
			code := m.code
			if m.at != asCallback { // which is replaced
				code += "\n\t" + m.at
			}
			last := strings.LastIndex(source, "#include <")
			head := last + strings.Index(source[last:], "\n") + 1
			mutated := maps.Clone(sources)
			mutated[m.file] = source[:head] + m.decl + strings.Replace(source[head:], m.at, code, 1)
			found, _ := inspect(t, mutated)
			if !slices.ContainsFunc(found, func(problem string) bool { return strings.Contains(problem, m.want) }) {
				t.Errorf("found %q", found)
			}
		})
	}
}

// inspect compiles the sources as cgo does, and tells what is wrong with the
// callback, and which functions were looked at.
func inspect(t *testing.T, sources map[string]string) (problems, walked []string) {
	t.Helper()
	dir := t.TempDir()
	header, err := os.ReadFile("stream.h")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "stream.h"), header, 0o600); err != nil {
		t.Fatal(err)
	}
	code := program{}
	for name, text := range sources {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		object := file + ".o"
		run(t, "gcc", append(compilerFlags(t), "-I"+dir, "-c", "-o", object, file)...)
		// One section for each function: a reference to another one is then a
		// relocation, whatever becomes of it.
		code.add(run(t, "objdump", "-dr", "--no-show-raw-insn", object))
	}
	queue := []string{}
	look := func(name string, allowed []string) {
		f := code[name]
		for _, to := range f.refers {
			switch {
			case strings.HasPrefix(to, ".LC"): // a constant
			case code[to] != nil:
				if !slices.Contains(walked, to) && !slices.Contains(queue, to) {
					queue = append(queue, to)
				}
			case !slices.Contains(allowed, to):
				problems = append(problems, fmt.Sprintf("%s refers to %s", name, to))
			}
		}
		for _, what := range f.odd() {
			problems = append(problems, fmt.Sprintf("%s: %s", name, what))
		}
	}
	if code["th_open"] == nil {
		t.Fatal("there is no th_open")
	}
	// What th_open names is called by it, or is a callback.
	look("th_open", opens)
	for len(queue) > 0 {
		name := queue[0]
		queue, walked = queue[1:], append(walked, name)
		look(name, calls)
	}
	return problems, walked
}

// compilerFlags are those of the #cgo line and of go build.
func compilerFlags(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("stream.go")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^#cgo CFLAGS: (.*)$`).FindSubmatch(text)
	if m == nil {
		t.Fatal("stream.go has no #cgo CFLAGS")
	}
	flags := strings.Fields(string(m[1]))
	flags = append(flags, strings.Fields(run(t, "pkg-config", "--cflags", "portaudio-2.0"))...)
	return append(flags, "-fPIC", "-pthread", "-ffunction-sections", "-fdata-sections", "-fcf-protection=none")
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, complaint.String())
	}
	return string(out)
}

// program are the functions of some object files by name.
type program map[string]*function

// function is one function as machine code.
type function struct {
	code   []instruction
	refers []string // what it refers to: functions and data, here or elsewhere
}

type instruction struct {
	at   uint64
	text string
}

var (
	startLine = regexp.MustCompile(`^[0-9a-f]+ <([^>]+)>:$`)
	codeLine  = regexp.MustCompile(`^\s+([0-9a-f]+):\t(.*)$`)
	// A relocation is a symbol with or without an addend, or a section.
	relocLine = regexp.MustCompile(`^\s+[0-9a-f]+: R_X86_64_\w+\t([^\s+-]+)`)
	jumpText  = regexp.MustCompile(`^(?:notrack |bnd )?j(\w+)\s+([0-9a-f]+) `)
	rmwText   = regexp.MustCompile(`^lock |^xchg .*\(`)
)

// add takes what objdump -dr prints of an object with one function a section.
func (p program) add(dump string) {
	var f *function
	for line := range strings.Lines(dump) {
		line = strings.TrimSuffix(line, "\n")
		if m := startLine.FindStringSubmatch(line); m != nil {
			f = &function{}
			p[m[1]] = f
		} else if m := relocLine.FindStringSubmatch(line); m != nil && f != nil {
			f.refers = append(f.refers, named(m[1]))
		} else if m := codeLine.FindStringSubmatch(line); m != nil && f != nil {
			at, _ := strconv.ParseUint(m[1], 16, 64) // by the pattern
			f.code = append(f.code, instruction{at, m[2]})
		}
	}
}

// named is the function or the data in a section of that name.
func named(symbol string) string {
	for _, section := range []string{".text.unlikely.", ".text.", ".rodata.", ".data.rel.ro.local.", ".bss.", ".data."} {
		if name, ok := strings.CutPrefix(symbol, section); ok {
			return name
		}
	}
	return symbol
}

// odd is what may not be in a callback, whatever is called: a call through a
// pointer, which may lead anywhere; a call of the kernel; and a loop around an
// atomic change, as every lock has.
func (f *function) odd() (found []string) {
	index := map[uint64]int{}
	for i, c := range f.code {
		index[c.at] = i
	}
	next := func(i int) (to []int) {
		text := f.code[i].text
		m := jumpText.FindStringSubmatch(text)
		if m != nil {
			at, _ := strconv.ParseUint(m[2], 16, 64) // by the pattern
			if j, ok := index[at]; ok {
				to = append(to, j)
			}
		}
		ends := m != nil && m[1] == "mp" || strings.HasPrefix(text, "ret") || strings.HasPrefix(text, "ud2")
		if !ends && i+1 < len(f.code) {
			to = append(to, i+1)
		}
		return to
	}
	for i, c := range f.code {
		switch {
		case regexp.MustCompile(`\b(call|jmp)q?\s+\*`).MatchString(c.text):
			found = append(found, "an indirect call: "+c.text)
		case regexp.MustCompile(`\b(syscall|sysenter|int )`).MatchString(c.text):
			found = append(found, "a call of the kernel: "+c.text)
		case rmwText.MatchString(c.text) && cyclic(i, next):
			found = append(found, "a loop around "+c.text)
		}
	}
	return found
}

// cyclic tells whether from is reached from itself.
func cyclic(from int, next func(int) []int) bool {
	seen := map[int]bool{}
	queue := next(from)
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		if i == from {
			return true
		}
		if !seen[i] {
			seen[i] = true
			queue = append(queue, next(i)...)
		}
	}
	return false
}
