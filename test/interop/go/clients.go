package main

import (
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/dtmcli/dtmimp"
	"github.com/go-resty/resty/v2"
)

func init() {
	scenarios["newgid"] = newGid
	scenarios["saga"] = saga
	scenarios["msg"] = msg
	scenarios["prepare"] = prepareOnly
	scenarios["tcc"] = tcc
	scenarios["xa"] = xa
	scenarios["barrier"] = barrier
	scenarios["again"] = localAgain
}

var standard = order{Product: 1, Qty: 2, User: 1, Amount: 100}

// The standard order, with another amount if one is given.
func ordered(p params) order {
	o := standard
	if p.has("amount") {
		o.Amount = int(p.number("amount"))
	}
	return o
}

// What all modes have: headers=X, wait=1, retry_limit=N, timeout_to_fail=N,
// request_timeout=N, retry_interval=N, concurrent=1, jrpc=1.
func options(t *dtmimp.TransBase, p params) {
	t.WaitResult = p.has("wait")
	t.RetryLimit = p.number("retry_limit")
	t.TimeoutToFail = p.number("timeout_to_fail")
	t.RequestTimeout = p.number("request_timeout")
	t.RetryInterval = p.number("retry_interval")
	t.Concurrent = p.has("concurrent")
	if p.has("header") {
		t.BranchHeaders = map[string]string{"X-Shop": p["header"]}
	}
	if p.has("jrpc") {
		t.Protocol = dtmimp.Jrpc
		t.Dtm = jrpc
	}
}

// A path of the services, with what p says its address should ask for beside.
func at(path string, p params, name string) string {
	if p.has(name) {
		return rm + path + "?" + p[name]
	}
	return rm + path
}

func newGid(_ params, r result) error {
	gids := []string{}
	for len(gids) < 3 {
		gids = append(gids, dtmcli.MustGenGid(dtm))
	}
	r["gids"] = gids
	return nil
}

// stock (step 01), payment (02), shipping (03): stock=, pay= and ship= ask the
// addresses for more.  parallel=1: the first two at once, the third after both.
func saga(p params, _ result) error {
	o := ordered(p)
	s := dtmcli.NewSaga(dtm, p["gid"]).
		Add(at("/stock/deduct", p, "stock"), rm+"/stock/return", o).
		Add(at("/account/pay", p, "pay"), rm+"/account/refund", o).
		Add(at("/ship/book", p, "ship"), rm+"/ship/cancel", o)
	options(&s.TransBase, p)
	if p.has("parallel") {
		s.SetConcurrent().AddBranchOrder(2, []int{0, 1})
	}
	return s.Submit()
}

// Deduct the stock in a local transaction, and then pay and book the shipping
// by message.  local=failure|error: what the local transaction ends with;
// stop=before|after: stop dead before or after its commit; delay=N; topic=X
// instead of the two steps; plain=1: no local transaction, just submit.
func msg(p params, _ result) error {
	o := ordered(p)
	m := dtmcli.NewMsg(dtm, p["gid"])
	options(&m.TransBase, p)
	switch {
	case p.has("topic"):
		m.AddTopic(p["topic"], o)
	case p.has("jrpc"):
		m.Add(rm+"/jrpc?method=pay", o)
		m.Add(at("/ship/book", p, "ship"), o)
	default:
		m.Add(at("/account/pay", p, "pay"), o)
		m.Add(at("/ship/book", p, "ship"), o)
	}
	if p.has("delay") {
		m.SetDelay(uint64(p.number("delay")))
	}
	if p.has("plain") {
		return m.Submit()
	}
	local := func(tx *sql.Tx) error {
		err := apply(tx, "/stock/deduct", o, m.Gid)
		if err == nil && p.has("local") {
			err = errors.New("the printer is out of paper")
			if p["local"] == "failure" {
				err = fmt.Errorf("no paper %w", dtmcli.ErrFailure)
			}
		}
		if p["stop"] == "before" {
			stopDead("before the commit")
		}
		return err
	}
	if p["stop"] == "after" {
		return m.DoAndSubmit(rm+"/query_prepared", func(bb *dtmcli.BranchBarrier) error {
			check(bb.CallWithDB(shopDB, local))
			stopDead("after the commit")
			return nil
		})
	}
	return m.DoAndSubmitDB(rm+"/query_prepared", shopDB, local)
}

// The local part of a message alone, as by a client that was very slow.
func localAgain(p params, r result) error {
	bb, err := dtmcli.BarrierFrom("msg", p["gid"], "00", "msg")
	check(err)
	err = bb.CallWithDB(shopDB, func(tx *sql.Tx) error {
		return apply(tx, "/stock/deduct", ordered(p), p["gid"])
	})
	r["duplicated"] = errors.Is(err, dtmcli.ErrDuplicated)
	return err
}

// prepare, and with submit=1 submit of a message without local part.
func prepareOnly(p params, _ result) error {
	m := dtmcli.NewMsg(dtm, p["gid"]).Add(rm+"/ok", standard)
	options(&m.TransBase, p)
	err := m.Prepare(rm + "/query_prepared")
	if err == nil && p.has("submit") {
		err = m.Submit()
	}
	return err
}

// stock (01) and account (02); nested=1: the account through another service
// (0201).  stop=1: stop dead after the first try.
func tcc(p params, _ result) error {
	o := ordered(p)
	return dtmcli.TccGlobalTransaction2(dtm, p["gid"], func(t *dtmcli.Tcc) {
		options(&t.TransBase, p)
	}, func(t *dtmcli.Tcc) (*resty.Response, error) {
		resp, err := t.CallBranch(o, at("/stock/try", p, "stock"), at("/stock/confirm", p, "confirm"), rm+"/stock/cancel")
		if p.has("stop") {
			stopDead("after the first try")
		}
		if err != nil {
			return resp, err
		}
		if p.has("panic") {
			panic(errors.New("the client went mad"))
		}
		if p.has("nested") {
			return t.CallBranch(o, rm+"/nested/try", rm+"/nested/confirm", rm+"/nested/cancel")
		}
		return t.CallBranch(o, rm+"/account/try", rm+"/account/confirm", rm+"/account/cancel")
	})
}

// stock in one database (01), account in the other (02).
func xa(p params, _ result) error {
	o := ordered(p)
	return dtmcli.XaGlobalTransaction2(dtm, p["gid"], func(x *dtmcli.Xa) {
		options(&x.TransBase, p)
	}, func(x *dtmcli.Xa) (*resty.Response, error) {
		resp, err := x.CallBranch(o, at("/xa/stock", p, "stock"))
		if p.has("stop") {
			stopDead("after the first branch")
		}
		if err != nil {
			return resp, err
		}
		return x.CallBranch(o, rm+"/xa/account")
	})
}

// The anomalies that a barrier is for, without a coordinator: kind=twice (one
// action at the same time twice), early (the cancel before its try, which comes late).
func barrier(p params, r result) error {
	gid := p["gid"]
	call := func(op string, before func()) (int, error) {
		ran := 0
		bb, err := dtmcli.BarrierFrom(p["type"], gid, "01", op)
		check(err)
		err = bb.CallWithDB(shopDB, func(tx *sql.Tx) error {
			ran++
			if before != nil {
				before()
			}
			return apply(tx, p[op], standard, gid)
		})
		return ran, err
	}
	if p["kind"] == "early" {
		forward, back := p["forward"], p["back"]
		ran, err := call(back, nil)
		r["back"] = ran
		if err == nil {
			ran, err = call(forward, nil)
			r["forward"] = ran
		}
		return err
	}

	// The second begins when the first has its row and is about to commit.
	var group sync.WaitGroup
	var second int
	var serr error
	started := make(chan bool)
	first, ferr := call("action", func() {
		group.Add(1)
		go func() {
			defer group.Done()
			close(started)
			second, serr = call("action", nil)
		}()
		<-started
		waitForLock()
	})
	group.Wait()
	r["first"], r["second"] = first, second
	if ferr == nil {
		ferr = serr
	}
	return ferr
}

// Until somebody of ours waits for another transaction.
func waitForLock() {
	for {
		var waits bool
		check(callLog.QueryRow("SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = current_user AND wait_event = 'transactionid'").Scan(&waits))
		if waits {
			return
		}
	}
}
