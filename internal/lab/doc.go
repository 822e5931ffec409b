// Package lab runs real processes in network namespaces with no way out, and
// listens to what they do: hosts on a bridge or behind a router, loss and
// rates by the kernel, captures, programs whose JSON events can be waited
// for, PulseAudio without a sound card, recorded speech, and measurements of
// sound that do not trust the code under test.
//
// Namespaces need Linux and root ([ErrNotRoot] otherwise); everything else
// runs anywhere the tools are installed. Whatever a process of the lab leaves
// behind because it was killed is removed by the next [NewNet]: names carry
// the process id of their maker.
package lab
