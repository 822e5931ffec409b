// Package scenario holds the acceptance tests of Teahouse: the program itself,
// several of it, with real sound, on loopback and in network namespaces. They
// have the build tag lab and need root:
//
//	.ci/lab                                              all of them, as CI does
//	go test -tags lab,nolibopusfile -v ./internal/lab/scenario
//
// Every test prints what it measured (-v shows it). Those that judge sound run
// alone; the others come after them, side by side.
//
// DESIGN section 8, row by row, and the test that shows it. Those without a
// package are in this one.
//
//	malformed, oversized or unauthenticated    room: FuzzPacket and the other Fuzz targets, TestMisbehaviourIsAnswered, TestBadBroadcasts;
//	                                           node: TestDatagramForged, TestForgedAndReplayed, TestFlood, TestAbuse
//	wrong flag                                 cmd/teahouse: TestScripts/usage
//	missing device, unreadable WAV             cmd/teahouse: TestScripts/devices; every kind of WAV: internal/audio: TestWAVRefusals
//	port taken                                 cmd/teahouse: TestScripts/ports
//	corrupt cache set aside                    TestDamagedCacheIsSetAside; the port: internal/home: TestPortIsChosenOnce
//	corrupt key refused, never replaced        cmd/teahouse: TestScripts/home; every bit: internal/home: TestDamagedKeysAreRefused
//	corrupt policy refused, left alone         TestCorruptPolicy; every kind of damage: cmd/teahouse: TestPolicyFileRefused, FuzzPolicyFile
//	no bootstrap reachable                     TestBootstrapComesLater; in virtual time, for hours: node: TestBootstrapComesLater
//	microphone or headset unplugged            TestHeadsetUnplugged; the sound server gone: internal/audio/portaudio: TestServerDies,
//	                                           TestServerHangs; waits for a machine with a card: a real headset pulled out
//	network changes                            TestPathFaults: blocked, down, moved, by sound; node, in virtual time: heal_test.go
//	sleep and wake                             TestSleepAndWake
//	peer, founder, bootstrap killed            TestChurn, TestDeathsAndGoodbyes, TestLANWithoutMDNS; room: TestKilled, TestRestartAfterKill
//	disk full                                  TestFullDisk; at each step: internal/home: TestDiskFullAtEachStep; a recording: internal/audio: TestRecordFullDisk
//	power cut during a write                   internal/home: TestPowerCutAtEachStep, TestKilledWhileWriting; TestKilledAtAnyMoment
//	clock wrong by an hour                     TestClockWrongByAnHour; room: TestPeriodsBridgeAnHour
//	first signal, SIGTERM, second signal       TestChurn; cmd/teahouse: TestScripts/talk, TestTerminalIsGivenBack
package scenario
