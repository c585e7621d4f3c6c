package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"
)

const (
	halfClose   = "half-close carried through"
	resetPassed = "reset passed on"
	noneLost    = "no lost byte"
)

// checkTimeout bounds each connection of a check: what is not carried through never comes.
const checkTimeout = 30 * time.Second

// checks finds out what a proxy does right beside being fast.
func (l *load) checks(ctx context.Context) (result, error) {
	l.result.Checks = make(map[string]bool)
	for name, all := range map[string][]func(context.Context) error{
		halfClose:   {l.clientEndsFirst, l.originEndsFirst},
		resetPassed: {l.clientResets, l.originResets},
		noneLost:    {l.bothSend},
	} {
		l.result.Checks[name] = true
		for _, check := range all {
			if err := check(ctx); err != nil {
				l.result.Checks[name] = false
				l.failed(fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	return l.result, nil
}

// clientEndsFirst: what the origin sends after the client's end arrives.
func (l *load) clientEndsFirst(ctx context.Context) error {
	return l.exchange(ctx, sayAfter, 1<<20, func(send, receive func() error) error {
		return errors.Join(send(), receive())
	})
}

// originEndsFirst: what the client sends after the origin's end arrives.
func (l *load) originEndsFirst(ctx context.Context) error {
	return l.exchange(ctx, sayBefore, 1<<20, func(send, receive func() error) error {
		return errors.Join(receive(), send())
	})
}

// bothSend: all arrives that both send at the same time, though both are slow to begin to read.
func (l *load) bothSend(ctx context.Context) error {
	return l.exchange(ctx, sayBoth, 32<<20, func(send, receive func() error) error {
		sent := make(chan error, 1)
		go func() { sent <- send() }()
		time.Sleep(100 * time.Millisecond)
		return errors.Join(receive(), <-sent)
	})
}

// exchange has size bytes sent both ways, and checks what arrived. order says when the client sends and receives.
func (l *load) exchange(ctx context.Context, verb string, size int64, order func(send, receive func() error) error) error {
	token := l.token()
	conn, err := l.say(ctx, verb, token, fmt.Sprint(size))
	if err != nil {
		return err
	}
	defer conn.Close()
	send := func() error {
		if _, err := io.Copy(conn, payload(fromClient, size)); err != nil {
			return fmt.Errorf("the client could not send: %w", err)
		}
		return conn.CloseWrite()
	}
	receive := func() error {
		sum := sha256.New()
		n, err := io.Copy(sum, conn)
		if err == nil && !bytes.Equal(sum.Sum(nil), sumOf(fromOrigin, size)) {
			err = fmt.Errorf("the client got %d of %d bytes, or others", n, size)
		}
		return err
	}
	if err := order(send, receive); err != nil {
		return err
	}
	end, err := l.ending(ctx, token)
	if err == nil && !bytes.Equal(end.Sum, sumOf(fromClient, size)) {
		err = fmt.Errorf("the origin got %d of %d bytes, or others", end.Bytes, size)
	}
	return err
}

// clientResets: the origin sees a reset, and not an end that the client might have wanted.
func (l *load) clientResets(ctx context.Context) error {
	token := l.token()
	conn, err := l.say(ctx, sayWatch, token)
	if err != nil {
		return err
	}
	defer drop(conn)
	if err := readAnswer(conn, make([]byte, len(sayWatch+" "+token+"\n"))); err != nil {
		return err
	}
	drop(conn)
	end, err := l.ending(ctx, token)
	if err == nil && !end.Reset {
		err = errors.New("the client's reset came to the origin as an end")
	}
	return err
}

// originResets: the client sees a reset.
func (l *load) originResets(ctx context.Context) error {
	conn, err := l.say(ctx, sayReset)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := readAnswer(conn, make([]byte, len(sayReset+"\n"))); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "now\n"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return nil
	case err == nil:
		return errors.New("the origin's reset came to the client as an end")
	}
	return err
}

// token names a connection, as no other one of this run is.
func (l *load) token() string {
	return fmt.Sprintf("%s-%d", l.to, l.sources.Add(1))
}

// say connects through the proxy and says the words as a line.
func (l *load) say(ctx context.Context, words ...string) (stream, error) {
	conns, err := l.open(ctx, 1, strings.Join(words, " "))
	if err != nil {
		return nil, err
	}
	return conns[0].(stream), conns[0].SetDeadline(time.Now().Add(checkTimeout))
}

// ending asks the origin itself how a connection ended.
func (l *load) ending(ctx context.Context, token string) (end ending, err error) {
	if err := l.ask(ctx, sayAsk+" "+token, &end); err != nil {
		return end, fmt.Errorf("the origin saw no end of the connection: %w", err)
	}
	return end, nil
}

// ask asks the origin itself.
func (l *load) ask(ctx context.Context, question string, answer any) error {
	conn, err := connect(ctx, l.origin, 0, overTCP)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(checkTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, question+"\n"); err != nil {
		return err
	}
	return json.NewDecoder(conn).Decode(answer)
}
