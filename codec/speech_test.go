package codec

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const prompts = "/usr/share/asterisk/sounds/en_US_f_Allison"

// recordedSpeech is about 20 s of a real voice, mono at 48 kHz, from Debian's
// asterisk-core-sounds-en-g722; where that or ffmpeg is missing it is the
// synthetic voice below, and recorded is false.
var recordedSpeech = sync.OnceValues(func() (pcm []float32, recorded bool) {
	files, _ := filepath.Glob(prompts + "/*.g722")
	if len(files) == 0 {
		files, _ = filepath.Glob("/usr/share/asterisk/sounds/en/*.g722")
	}
	for _, file := range files {
		out, err := exec.Command("ffmpeg", "-v", "error", "-f", "g722", "-i", file,
			"-f", "s16le", "-ar", "48000", "-ac", "1", "-").Output()
		if err != nil {
			break
		}
		for i := 0; i+1 < len(out); i += 2 {
			pcm = append(pcm, float32(int16(binary.LittleEndian.Uint16(out[i:])))/32768)
		}
		if len(pcm) > 20*Rate {
			return pcm[:20*Rate], true
		}
	}
	return syntheticSpeech(20*Rate, 1), false
})

func speech(t testing.TB) []float32 {
	pcm, recorded := recordedSpeech()
	if !recorded {
		t.Log("no recorded speech installed: a synthetic voice stands in")
	}
	return pcm
}

// syntheticSpeech has voiced syllables of gliding pitch with three formants,
// hissing ones, and pauses.
func syntheticSpeech(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 7))
	pcm := make([]float32, 0, n)
	phase := 0.0
	for len(pcm) < n {
		length := Rate/10 + rng.IntN(Rate/5)
		kind := rng.IntN(5)
		f0, glide := 90+rng.Float64()*150, 1+(rng.Float64()-0.5)*2e-5
		for i := range length {
			env := math.Sin(math.Pi * float64(i) / float64(length))
			var s float64
			switch kind {
			case 0: // pause
			case 1: // hiss
				s = 0.1 * (rng.Float64()*2 - 1)
			default:
				f0 *= glide
				phase += 2 * math.Pi * f0 / Rate
				for h := 1.0; h*f0 < 4000; h++ {
					amp := 1/h + 0.6*math.Exp(-math.Abs(h*f0-700)/200) + 0.4*math.Exp(-math.Abs(h*f0-2300)/300)
					s += 0.12 * amp * math.Sin(h*phase)
				}
			}
			pcm = append(pcm, float32(s*env))
		}
	}
	return pcm[:n]
}

// correlation is the largest normalised cross-correlation of a with b shifted
// by up to maxLag samples, and that shift.
func correlation(a, b []float32, maxLag int) (best float64, lag int) {
	best = -1
	for l := -maxLag; l <= maxLag; l++ {
		var ab, aa, bb float64
		for i := range a {
			if j := i + l; j >= 0 && j < len(b) {
				x, y := float64(a[i]), float64(b[j])
				ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
			}
		}
		if aa == 0 && bb == 0 {
			return 1, 0
		}
		if c := ab / math.Sqrt(aa*bb+1e-12); c > best {
			best, lag = c, l
		}
	}
	return best, lag
}

type encodedKey struct {
	config EncoderConfig
	first  *float32
	length int
}

var (
	encodedMu sync.Mutex
	encoded   = map[encodedKey][][]byte{}
)

// encodeAll is pcm as packets, encoded once for all tests.
func encodeAll(t testing.TB, c EncoderConfig, pcm []float32) [][]byte {
	t.Helper()
	encodedMu.Lock()
	defer encodedMu.Unlock()
	key := encodedKey{c, &pcm[0], len(pcm)}
	if encoded[key] == nil {
		encoded[key] = encodeOnce(t, c, pcm)
	}
	return encoded[key]
}

func encodeOnce(t testing.TB, c EncoderConfig, pcm []float32) [][]byte {
	t.Helper()
	e, err := NewEncoder(c)
	if err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	step := e.Config().FrameSamples * e.Config().Channels
	for len(pcm) >= step {
		p := make([]byte, MaxOpus)
		n, err := e.Encode(p, pcm[:step])
		if err != nil {
			t.Fatal(err)
		}
		packets, pcm = append(packets, p[:n]), pcm[step:]
	}
	return packets
}

func rms(pcm []float32) float64 {
	var sum float64
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(max(1, len(pcm))))
}
