// Package scenario holds the acceptance tests of Teahouse: the program itself,
// several of it, with real sound, on loopback and in network namespaces. They
// have the build tag lab and need root:
//
//	.ci/lab                                              all of them, as CI does
//	go test -tags lab,nolibopusfile -v ./internal/lab/scenario
//
// Every test prints what it measured (-v shows it). Those that judge sound run
// alone; the others come after them, side by side.
package scenario
