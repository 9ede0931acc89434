package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// onSignals gives a context that the first SIGINT or SIGTERM cancels, so that the verb drains; the second calls exit
// with 128 + the signal's number. SIGPIPE does not end the process, so that it can clean up: the write gives an error. stop
// gives the signals back.
func onSignals(exit func(code int)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				if ctx.Err() != nil {
					exit(128 + int(s.(syscall.Signal)))
				}
				cancel()
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		signal.Reset(syscall.SIGPIPE)
		close(done)
		cancel()
	}
}
