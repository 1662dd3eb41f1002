r"""
Errata: what the printed formulas do
====================================

Lectures, slides and articles have misprints, and an optimizer with a misprint often still goes downhill: a test that
asks only whether the loss falls will pass it. So every formula of the five lectures that is printed wrong, or from
which something is missing, is taken here by its letter, run on a problem of one or two numbers, and put beside the
formula that was meant. Three curves serve throughout,

.. math::

   \text{hill} = \frac{(w - 3)^2}{2} \text{ from } 0, \qquad \text{bowl} = \frac{w^2}{2} \text{ from } 1, \qquad
   \text{valley} = \frac{100 x^2 + y^2}{2} \text{ from } (1, 1),

in double precision. The hill shows whoever has lost the sign of the gradient, for it lies to the right of the start.
The table at the end has all of them.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics.trajectories import trajectory
from jaxopt_lectures.models.initializers import normal, sparse

plt.style.use("jaxopt_lectures.diagnostics.lectures")

table = []  # lecture, what is printed, what it does, what the right one does


def follow(rule, fun, start, steps, slots=1):
    """Weights before the first of `steps` and after each: `rule(t, w, g, s) -> (w, s)`, s a list of arrays of zeros."""
    with jax.enable_x64(True):
        w = jnp.asarray(start, jnp.float64)

        def step(carry, t):
            w, s = rule(t, carry[0], jax.grad(fun)(carry[0]), carry[1])
            return (w, s), w

        carry = (w, [jnp.zeros_like(w)] * slots)
        _, path = jax.lax.scan(step, carry, jnp.arange(1, steps + 1, dtype=jnp.float64))
        return np.asarray(jnp.concatenate([w[None], path]))


def ours(tx, fun, start, steps):
    """The same path with one of the package's optimizers."""
    with jax.enable_x64(True):
        return np.asarray(trajectory(tx, fun, jnp.asarray(start, jnp.float64), steps).points)


def hill(w):
    """Minimum at 3."""
    return (w - 3) ** 2 / 2


def bowl(w):
    """Minimum at 0, in any number of coordinates."""
    return jnp.sum(w**2) / 2


def valley(w):
    """Minimum at (0, 0), 100 times as steep along x as along y."""
    return (100 * w[0] ** 2 + w[1] ** 2) / 2


# %%
# Networks and losses
# -------------------
# **Lecture 000** prints :math:`\tanh(x) = 2\,\mathrm{sigmoid}(2x) - 1` just below
# :math:`\mathrm{sigmoid}(x) = 1 / (1 + e^{-\alpha x})`. The identity holds for :math:`\alpha = 1` alone.


def sigmoid(x, alpha):
    """Lecture 000's."""
    return 1 / (1 + np.exp(-alpha * x))


tanh = {alpha: 2 * sigmoid(2 * 1.0, alpha) - 1 for alpha in (1, 2)}
table.append(("000", "tanh x = 2 sigmoid(2x) - 1, any slope", f"tanh 1 = {tanh[2]:.6f} at 2", f"{np.tanh(1):.6f}"))

# %%
# **Lecture 004** defines the cost as a mean, :math:`C = \frac{1}{N} \sum_i (y_i - \hat{y}_i)^2`, and some pages later
# as a sum, :math:`C = \sum_i C_i`, with the sum of the gradients. With MNIST's 60000 images the step is then 60000
# times as long. (Lecture 002 calls the mean "least squares error", the name of the sum.)

with jax.enable_x64(True):
    x = jnp.linspace(0.5, 1.5, 60_000)
    mean, total = (jax.grad(lambda w, of=of: of((w * x - x) ** 2))(0.0) for of in (jnp.mean, jnp.sum))
longer = float(total) / float(mean)
table.append(("004", "C a mean, its gradient a sum", f"step {longer:.0f} times as long", "1"))

# %%
# **Lecture 002**'s cross-entropy :math:`-\sum_i o_i \log \hat{y}_i` is right on paper. A machine takes
# :math:`0 \cdot \log 0` for no number, so that a *perfect* prediction costs NaN. The loss belongs on the logits.

o, perfect = np.array([1.0, 0.0]), np.array([1.0, 0.0])
with np.errstate(divide="ignore", invalid="ignore"):
    literal_loss = float(-np.sum(o * np.log(perfect)))
logit_loss = float(-jnp.sum(o * jax.nn.log_softmax(jnp.array([200.0, -200.0]))))
table.append(("002", "cross-entropy of a perfect answer", f"costs {literal_loss}", f"{abs(logit_loss):.0f}"))

# %%
# **Lecture 004** says that :math:`w_{jk}` leads *from* node j *to* node k, and then uses
#
# .. math::
#
#    z = w a + b, \qquad \frac{\partial C}{\partial w_{jk}} = a_k \delta_j,
#
# which need the reverse: rows are the nodes fed, columns the nodes that feed. With two inputs and three outputs the
# product fails. Where all layers have one size nothing fails, and the gradient is that of the transpose. It also prints
# the error of the last layer once with a plain dot, :math:`\delta^L = \nabla C \cdot \sigma'(z^L)`; between two vectors
# that is one number, where every node has its own.

with jax.enable_x64(True):
    from_to = jax.random.normal(jax.random.key(0), (2, 2))  # w_jk from j to k, as the slide says
    a, target = jnp.array([1.0, -0.5]), jnp.array([0.2, 0.9])

    def cost(w):
        """Squared error of one layer of sigmoids, node k summing over all j."""
        return jnp.sum((jax.nn.sigmoid(a @ w) - target) ** 2)

    s = jax.nn.sigmoid(a @ from_to)
    slope, truth = 2 * (s - target), jax.grad(cost)(from_to)
    delta, dot = slope * s * (1 - s), jnp.dot(slope, s * (1 - s))
    as_printed, meant = jnp.outer(delta, a), jnp.outer(a, delta)
    one_delta = jnp.outer(a, jnp.full(2, dot))
    off, on, dotted = (
        float(jnp.linalg.norm(g - truth) / jnp.linalg.norm(truth)) for g in (as_printed, meant, one_delta)
    )
try:
    jnp.ones((2, 3)) @ jnp.ones(2)
except TypeError as error:
    print("z = w a with w of (from, to) = (2, 3):", str(error).split(".")[0])
table.append(("004", "dC/dw_jk = a_k delta_j, w from j to k", f"gradient off by {off:.0%}", f"{on:.0e}"))
table.append(("004", "delta^L with a plain dot", f"gradient off by {dotted:.0%}", f"{on:.0e}"))

# %%
# **Lecture 001** steps the weights by the derivative with respect to the layer's *output*,
# :math:`\theta_L \leftarrow \theta_L - \alpha\, \partial\epsilon / \partial F^L`; the last factor of the chain rule,
# :math:`\partial F / \partial \theta`, is never written. A (2, 3) matrix and a vector of 3 subtract without complaint,
# and weights of an input that is 0 are changed too.

theta, inputs = np.ones((2, 3)), np.array([1.0, 0.0])
d_output = inputs @ theta - np.array([0.0, 1.0, 2.0])  # d eps / dF for eps = |F - target|^2 / 2
literal_theta, right_theta = theta - 0.1 * d_output, theta - 0.1 * np.outer(inputs, d_output)
moved = np.abs(literal_theta - theta)[1].max(), np.abs(right_theta - theta)[1].max()
table.append(("001", "theta <- theta - alpha d eps/dF", f"idle weights move by {moved[0]:.1f}", f"{moved[1]:.0f}"))

# %%
# Gradient descent and momentum
# -----------------------------
# **Lecture 003** first prints :math:`w = w - w'`, a rate of 1 (and mends it two lines later). On the bowl that is one
# perfect step. On a curvature of 4 each step multiplies the weight by :math:`1 - 4 = -3`.

no_rate = follow(lambda t, w, g, s: (w - g, s), lambda w: 4 * bowl(w), 1.0, 4)
with_rate = ours(jol.sgd(0.1), lambda w: 4 * bowl(w), 1.0, 4)
table.append(("003", "w = w - w', 4 steps, curvature 4", f"1 -> {no_rate[-1]:.0f}", f"{with_rate[-1]:.4f}"))

# %%
# **Lecture 001** prints :math:`\theta^{k+1} \leftarrow \theta^{k+1} - \rho g`, the same :math:`k + 1` on both sides. As
# an equation it says :math:`\rho g = 0` and nothing about :math:`\theta`: its two sides differ by :math:`\rho g`,
# whatever is put in.

gaps = [theta - (theta - 0.1 * 2.0) for theta in (0.0, 5.0, -7.0)]
table.append(("001", "theta^{k+1} <- theta^{k+1} - rho g", f"sides differ by {max(gaps):.1f} for any theta", "theta^k"))

# %%
# **Lecture 001**'s algorithm 8.1 requires "learning rate schedule :math:`\rho_1, \rho_2, \ldots`" and says no more. It
# matters. With a gradient that carries noise of standard deviation 1, a constant rate of 0.1 ends in a jitter of
# :math:`\sqrt{0.1 / 1.9} = 0.23` for ever; :math:`\rho_k = 1 / k`, whose sum is infinite and whose sum of squares is
# not, arrives. The index counts from 1 there and from 0 in programs: :math:`\rho_k` is ``schedule(k - 1)``; whoever
# asks for ``schedule(k)`` skips the first rate, and here takes half of it.


def jitter(rates):
    """Standard deviation of 500 runs on the bowl from 1, after as many steps as there are rates."""
    noise = jax.random.normal(jax.random.key(1), (len(rates), 500))
    last, _ = jax.lax.scan(lambda w, now: (w - now[0] * (w + now[1]), None), jnp.ones(500), (rates, noise))
    return float(jnp.std(last))


k = jnp.arange(1.0, 2001.0)
constant, falling = jitter(jnp.full(2000, 0.1)), jitter(1 / k)
table.append(("001", "rho_k not said; constant", f"jitter of {constant:.2f} for ever", f"{falling:.2f} with 1/k"))

halving = jol.exponential_decay(1.0, transition_steps=1, decay_rate=0.5)
skipped, counted = float(halving(1)), float(halving(0))  # rho_1, taken as schedule(k) and as schedule(k - 1)
table.append(("001", "rho_k read as schedule(k)", f"first rate {skipped}", f"{counted}"))

# %%
# **Lecture 001** calls the momentum :math:`\alpha` and the rate :math:`\rho`; **lecture 002** calls the rate
# :math:`\alpha` and the momentum :math:`\gamma`; **lecture 003** calls the momentum :math:`\rho`. A setting carried
# from one to the other by its letter is another method: :math:`\alpha = 0.9, \rho = 0.01` with the roles exchanged.

carried, own = (ours(jol.momentum(*numbers), valley, (1.0, 1.0), 20)[-1] for numbers in ((0.9, 0.01), (0.01, 0.9)))
lost, kept = np.abs(carried).max(), np.abs(own).max()
table.append(("001/002", "alpha: momentum there, rate here", f"|w| = {lost:.0e} after 20 steps", f"{kept:.2f}"))

# %%
# **Lecture 003** has the rate outside the velocity, :math:`v = \rho v + g,\; w = w - \eta v`; the others have it
# inside, :math:`v = \gamma v + \eta g,\; w = w - v`. Neither is wrong, and at a constant rate they agree. With a
# gradient of 1 and a rate halved at every step they do not.


def slant(w):
    """A gradient of 1 everywhere."""
    return 1.0 * w


def rate(t):
    """1, 1/2, 1/4..."""
    return 0.5 ** (t - 1)


def momentum_000(t, w, g, s):
    """Inside."""
    v = 0.9 * s[0] + rate(t) * g
    return w - v, [v]


def momentum_003(t, w, g, s):
    """Outside."""
    v = 0.9 * s[0] + g
    return w - rate(t) * v, [v]


inside, outside = (follow(rule, slant, 0.0, 8) for rule in (momentum_000, momentum_003))
halved = jol.exponential_decay(1.0, transition_steps=1, decay_rate=0.5)
assert np.allclose(inside, ours(jol.momentum(halved), slant, 0.0, 8), atol=1e-12)
assert np.allclose(outside, ours(jol.momentum(halved, learning_rate_inside=False), slant, 0.0, 8), atol=1e-12)
table.append(("003", "rate outside the velocity", f"falling rate: at {outside[-1]:.2f}", f"{inside[-1]:.2f} inside"))

# %%
# **Lecture 002** prints Nesterov's method without an error, in three lines. Two things are not said. A program that is
# handed the gradient cannot take it at :math:`W_{fut}`; it holds :math:`W_{fut}` instead, and whoever reads its
# parameters reads another point (``jol.eval_params`` gives W). And "superior to momentum" is no theorem: on the valley,
# each tuned for it, momentum is 800 times nearer after 100 steps.

GAMMA, ALPHA = 0.9, 0.01


def nesterov_002(t, w, g, s):
    """As printed; g, the gradient at w, is not the one to use."""
    ahead = w - GAMMA * s[0]
    v = GAMMA * s[0] + ALPHA * jax.grad(valley)(ahead)
    return w - v, [v]


with jax.enable_x64(True):
    run = trajectory(jol.nesterov(ALPHA, GAMMA), valley, jnp.ones(2), 12)
    apart = float(jnp.max(jnp.abs(run.params - run.points[-1])))
printed_path = follow(nesterov_002, valley, (1.0, 1.0), 12)
assert np.allclose(run.points, printed_path, atol=1e-12)
table.append(("002", "W_fut held, and read as W", f"off by {apart:.2f} after 12 steps", "jol.eval_params"))

ratio = (np.sqrt(100) - 1) / (np.sqrt(100) + 1)
heavy = np.linalg.norm(ours(jol.momentum(4 / (10 + 1) ** 2, ratio**2), valley, (1.0, 1.0), 100)[-1])
nesterov = np.linalg.norm(ours(jol.nesterov(1 / 100, ratio), valley, (1.0, 1.0), 100)[-1])
table.append(("002", "Nesterov 'is superior'; valley, tuned", f"|w| = {nesterov:.0e}", f"{heavy:.0e} momentum"))

# %%
# **Lecture 002** quotes a "slowly increasing schedule" for the momentum and a "well-designed random initialization"
# without a formula for either. In the paper they are
#
# .. math::
#
#    \mu_t = \min\left(1 - \frac{1}{2 (\lfloor t / 250 \rfloor + 1)},\; \mu_{max}\right)
#
# and 15 weights from N(0, 1) into each unit, all others 0. With small dense weights instead, N(0, 0.1²), a stack of six
# layers of sigmoids gives nearly the same answer to every input, so that there is nothing to learn from.

schedule = jol.sutskever_momentum_schedule(0.99, period=250)
slowly = [float(schedule(t)) for t in (0, 250, 500, 1000, 12_250)]
table.append(("002", "'slowly increasing', no formula", "-", ", ".join(f"{mu:.2f}" for mu in slowly)))


def contrast(initializer):
    """Spread of a unit over 200 inputs, after six layers of sigmoids, relative to its mean; the median unit's."""
    a = jax.random.uniform(jax.random.key(2), (200, 100))
    for key in jax.random.split(jax.random.key(3), 6):
        a = jax.nn.sigmoid(a @ initializer(key, (100, 100)))
    return float(jnp.median(jnp.std(a, axis=0) / jnp.mean(a, axis=0)))


dense, listening = contrast(normal(0.1)), contrast(sparse(15))
table.append(("002", "'well-designed initialization'", f"dense 0.1: contrast {dense:.0e}", f"{listening:.2f} sparse"))

# %%
# AdaGrad
# -------
# **Lecture 003** says "the square of the gradient" and prints
#
# .. code-block:: text
#
#    sqr_grad = sqr_grad + (wi)
#    w = w - (wi*lr) / sqrgrad+ 1e-7
#
# without the square, without the root, and with 1e-7 added to the weight instead of the divisor. The first step is
# :math:`-\eta\, g / g = -\eta`, whichever way the slope points: on the hill it leaves in the wrong direction and never
# turns.


def adagrad_003(t, w, g, s, lr=0.1):
    """As printed."""
    sqr_grad = s[0] + g
    return w - (g * lr) / sqr_grad + 1e-7, [sqr_grad]


paths = {"003 AdaGrad": (follow(adagrad_003, hill, 0.0, 100), ours(jol.adagrad(0.1, 0.0), hill, 0.0, 100))}
wrong, right = paths["003 AdaGrad"]
table.append(("003", "AdaGrad: sqr_grad + (wi)", f"hill: 0 -> {wrong[-1]:.2f}", f"{right[-1]:.2f}, on the way to 3"))

first = [follow(adagrad_003, lambda w, g=g: g * w, 0.0, 1)[-1] for g in (2.0, -2.0)]
table.append(("003", "AdaGrad, first step at g = 2, g = -2", f"{first[0]:.2f}, {first[1]:.2f}", "-0.10, 0.10"))

# %%
# **Lecture 002** divides by :math:`\sqrt{V_t + \epsilon}` without saying what :math:`V_t` is; the sum of the squares is
# meant. Where :math:`\epsilon` stands is not the same either. For a gradient of 1e-5 and :math:`\epsilon = 10^{-7}`:
# inside the root, the first step is 0.03 of the rate; outside, all but 1 % of it.

eps_at = [-ours(jol.adagrad(1.0, 0.0, eps_in_sqrt=inner), lambda w: 1e-5 * w, 0.0, 1)[-1] for inner in (True, False)]
table.append(("002", "AdaGrad: eps inside the root", f"g = 1e-5: step {eps_at[0]:.4f}", f"{eps_at[1]:.4f} outside"))

# %%
# **Lecture 004** prints :math:`r \leftarrow r + \nabla C^\top \nabla C`. That is an inner product, one number, so all
# coordinates get one rate: a method in its own right (``jol.adagrad_norm``), but the valley stays a valley. AdaGrad's
# product is elementwise, and to it a valley along the axes is round.

scalar = ours(jol.adagrad_norm(0.5), valley, (1.0, 1.0), 200)
elementwise = ours(jol.adagrad(0.5, 0.0), valley, (1.0, 1.0), 200)
paths["004 AdaGrad"] = scalar[:, 1], elementwise[:, 1]
table.append(("004", "AdaGrad: an inner product", f"valley: y = {scalar[-1, 1]:.2f}", f"{elementwise[-1, 1]:.0e}"))

# %%
# RMSProp
# -------
# **Lecture 003** has ``sqr_grad = decay_rate * sqr_grad + (1- decay_rate) + (wi)``: a plus for the second times, and
# the square and the root are missing as before. **Lecture 002** has the mean of squares, but no :math:`\epsilon` beside
# it: a first gradient of 0 is 0/0, and NaN for ever. **Lecture 004** has the inner product again.


def rmsprop_003(t, w, g, s, lr=0.01, decay_rate=0.9):
    """As printed."""
    sqr_grad = decay_rate * s[0] + (1 - decay_rate) + g
    return w - (g * lr) / sqr_grad + 1e-7, [sqr_grad]


def rmsprop_002(t, w, g, s, eta=0.1, beta=0.9):
    """As printed."""
    mean = beta * s[0] + (1 - beta) * g**2
    return w - eta / jnp.sqrt(mean) * g, [mean]


def rmsprop_004(t, w, g, s, eta=0.01, alpha=0.9, delta=1e-6):
    """As printed."""
    r = alpha * s[0] + (1 - alpha) * jnp.dot(g, g)
    return w - eta / jnp.sqrt(delta + r) * g, [r]


paths["003 RMSProp"] = follow(rmsprop_003, hill, 0.0, 1000), ours(jol.rmsprop(0.01), hill, 0.0, 1000)
wrong, right = paths["003 RMSProp"]
table.append(("003", "RMSProp: + (1- decay_rate) + (wi)", f"hill: 0 -> {wrong[-1]:.2f}", f"{right[-1]:.2f}"))

without_eps = follow(rmsprop_002, bowl, (0.0, 1.0), 50)[-1]
with_eps = ours(jol.rmsprop(0.1), bowl, (0.0, 1.0), 50)[-1]
table.append(("002", "RMSProp: no eps, one gradient of 0", f"bowl at 0: {without_eps[0]}", f"{with_eps[0]:.0f}"))

scalar, elementwise = follow(rmsprop_004, valley, (1.0, 1.0), 200), ours(jol.rmsprop(0.01), valley, (1.0, 1.0), 200)
paths["004 RMSProp"] = scalar[:, 1], elementwise[:, 1]
table.append(("004", "RMSProp: an inner product", f"valley: y = {scalar[-1, 1]:.2f}", f"{elementwise[-1, 1]:.0e}"))

# %%
# AdaDelta
# --------
# **Lecture 002**'s slide has :math:`RMS[g]_t = \sqrt{E[g^2]_t} + \epsilon` and never says what :math:`\Delta x` is.
# Zeiler's is
#
# .. math::
#
#    \Delta x_t = -\frac{RMS[\Delta x]_{t-1}}{RMS[g]_t}\, g_t, \qquad RMS[y]_t = \sqrt{E[y^2]_t + \epsilon}.
#
# :math:`\epsilon` is more than a guard there: its root is the length of the first steps. Outside the root they are a
# thousand times as short, and to halve w on the bowl takes 4739 steps instead of 131.
#
# The listing (under the title "Adam") has lost the numerator and the minus sign,
# :math:`\Delta x_t = g_t / (\sqrt{E[g^2]_t} + \epsilon)`: it climbs. With the minus put back it is RMSProp at a rate of
# 1, which jumps to and fro between 0.5 and -0.5.


def adadelta_listing(t, x, g, s, rho=0.95, eps=1e-6, sign=1):
    """As printed, with m, v and E[dx^2] left out: they are never read."""
    mean = rho * s[0] + (1 - rho) * g**2
    return x + sign * g / (jnp.sqrt(mean) + eps), [mean]


def halved_after(path):
    """The number of steps to 0.5."""
    assert (path <= 0.5).any()
    return int(np.argmax(path <= 0.5))


inner, outer = (ours(jol.adadelta(rho=0.95, eps_in_sqrt=at), bowl, 1.0, 5000) for at in (True, False))
table.append(
    ("002", "AdaDelta: eps outside the root", f"bowl halved in {halved_after(outer)} steps", f"{halved_after(inner)}")
)
climbing = follow(adadelta_listing, bowl, 1.0, 50)
paths["002 AdaDelta"] = climbing, inner[:51]
table.append(("002", "AdaDelta: the listing", f"bowl: 1 -> {climbing[-1]:.0f} in 50 steps", f"{inner[50]:.2f}"))
jumping = follow(lambda *given: adadelta_listing(*given, sign=-1), bowl, 1.0, 500)
table.append(("002", "the listing, minus put back", f"jumps to and fro by {abs(jumping[-1]):.2f}", f"{inner[500]:.2f}"))

# %%
# Adam
# ----
# **Lecture 000** ends in :math:`w^{(new)} = w^{(old)} - \eta\, \hat{m}^{(old)} / (\sqrt{\hat{v}^{(old)}} + \epsilon)`,
# the hats not defined. If "old" is read as the step before, the first one is
# :math:`\hat{m}_0 = m_0 / (1 - \beta_1^0) = 0 / 0`. **Lecture 003** prints
#
# .. code-block:: text
#
#    moment2 = beta2 * moment2 + (1- beta2) * (wi)
#    w = w - (moment1*lr) /moment2+ 1e-7
#
# without square, root, bias correction, and with 1e-7 outside the division. The first step is
# :math:`-\eta (1 - \beta_1) / (1 - \beta_2) = -100\, \eta`, for any gradient of either sign. **Lecture 002** prints
# Adam in full and right; what it lacks in a name ("adaptive *momentum*" in lecture 003, "adeptive" in 002) is *moment*.


def adam_000(t, w, g, s, eta=1e-3, b1=0.9, b2=0.999, eps=1e-8):
    """The hats of the step before."""
    m_hat, v_hat = s[0] / (1 - b1 ** (t - 1)), s[1] / (1 - b2 ** (t - 1))
    m, v = b1 * s[0] + (1 - b1) * g, b2 * s[1] + (1 - b2) * g**2
    return w - eta / (jnp.sqrt(v_hat) + eps) * m_hat, [m, v]


def adam_003(t, w, g, s, lr=1e-3, beta1=0.9, beta2=0.999):
    """As printed."""
    moment1 = beta1 * s[0] + (1 - beta1) * g
    moment2 = beta2 * s[1] + (1 - beta2) * g
    return w - (moment1 * lr) / moment2 + 1e-7, [moment1, moment2]


old_hats = follow(adam_000, hill, 0.0, 3, slots=2)
paths["003 Adam"] = follow(adam_003, hill, 0.0, 1000, slots=2), ours(jol.adam(1e-3), hill, 0.0, 1000)
wrong, right = paths["003 Adam"]
plain = ours(jol.adam(1e-3, eps=1e-7, bias_correction=False), hill, 0.0, 1000)
table.append(("000", "Adam: hats of the step before", f"hill: 0 -> {old_hats[1]}", f"{right[1]:.3f}"))
table.append(("003", "Adam: moment2 of (wi)", f"hill: 0 -> {wrong[-1]:.2f}", f"{right[-1]:.2f}, on the way to 3"))
first_adam = [follow(adam_003, lambda w, g=g: g * w, 0.0, 1, slots=2)[-1] for g in (2.0, -2.0)]
table.append(("003", "Adam, first step at g = 2, g = -2", f"{first_adam[0]:.1f}, {first_adam[1]:.1f}", "-0.001, 0.001"))
table.append(("003", "Adam: squares mended, no bias correction", f"first step {plain[1]:.5f}", f"{right[1]:.5f}"))

# %%
# Marks that cannot be run
# ------------------------
# A partial sign is missing in lecture 004's Hessian (:math:`\partial^2 f / \partial x_1 x_n`). Its layers are counted
# :math:`l = 2, 3` while :math:`a^0 = x`, so layer 1 has no formula (they run from 1), and the input is
# :math:`a^0_j = x_j` in one place and :math:`a^0 = x_j` in the other. Lecture 002's listing loops over :math:`l` and
# uses :math:`t`, sets m and v and never reads them, and cites arXiv 1212.25701 for 1212.5701.
#
# Six paths
# ---------
# What was printed, and what was meant. Two panels show the flat coordinate y of the valley, the others the weight
# itself; in grey, the minimum.

titles = {
    "003 AdaGrad": "003: AdaGrad, no square",
    "003 RMSProp": "003: RMSProp, no square",
    "003 Adam": "003: Adam, no square",
    "002 AdaDelta": "002: AdaDelta, no minus",
    "004 AdaGrad": "004: AdaGrad, one rate",
    "004 RMSProp": "004: RMSProp, one rate",
}
figure, axes = plt.subplots(2, 3, figsize=(8.4, 4.6))
for (name, title), axis in zip(titles.items(), axes.flat, strict=True):
    for path, label in zip(paths[name], ("as printed", "as meant"), strict=True):
        axis.plot(path, label=label, color="C3" if label == "as printed" else "C0")
    if name != "002 AdaDelta":  # its axis is logarithmic
        axis.axhline(3 if name.startswith("003") else 0, color="0.6", linewidth=0.8, zorder=1)
    axis.set(title=title, xlabel="step", ylabel="y" if name.startswith("004") else "w")
axes[1, 0].set_ylabel("w, logarithmic")
axes[1, 0].set_yscale("log")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %%
# All of them
# -----------

widths = [max(len(row[column]) for row in table) for column in range(4)]
heads = ("lecture", "as printed", "what it does", "right")
widths = [max(width, len(head)) for width, head in zip(widths, heads, strict=True)]
for row in (heads, tuple("-" * width for width in widths), *table):
    print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

# %%
# What this page teaches, as assertions. The numbers are those of the texts above.

assert abs(tanh[1] - np.tanh(1)) < 1e-15
assert abs(tanh[2] - 0.964028) < 1e-6
assert abs(longer - 60_000) < 1e-3
assert np.isnan(literal_loss)
assert logit_loss == 0
assert off > 0.1
assert dotted > 0.1
assert on < 1e-14
assert np.allclose(moved, (0.1, 0))
assert no_rate[-1] == 81
assert abs(with_rate[-1] - 0.6**4) < 1e-12
assert np.allclose(gaps, 0.2)
assert abs(constant - np.sqrt(0.1 / 1.9)) < 0.04, "500 runs know a standard deviation to 3 %"
assert falling < 0.03, "1 / sqrt(2000) = 0.022"
assert (skipped, counted) == (0.5, 1.0)
assert lost > 1e20 > kept
assert abs(inside[-1] + 10.3243) < 1e-4
assert abs(outside[-1] + 3.5858) < 1e-4
assert apart > 0.01
assert heavy < nesterov / 100, "on a quadratic, each tuned for it"
assert np.allclose(slowly, [1 / 2, 3 / 4, 5 / 6, 9 / 10, 0.99], rtol=1e-6)
assert dense < 0.1 * listening
assert abs(paths["003 AdaGrad"][0][-1] + 0.52994) < 1e-5
assert abs(paths["003 AdaGrad"][1][-1] - 1.60503) < 1e-5
assert np.allclose(first, -0.1, atol=1e-6)
assert abs(eps_at[0] - 0.0316) < 1e-4
assert abs(eps_at[1] - 0.990) < 1e-3
assert abs(paths["004 AdaGrad"][0][-1] - 0.42420) < 1e-5
assert abs(paths["004 AdaGrad"][1][-1]) < 1e-40
assert abs(paths["003 RMSProp"][0][-1] + 1.06001) < 1e-5
assert abs(paths["003 RMSProp"][1][-1] - 3) < 1e-5
assert np.isnan(without_eps[0])
assert with_eps[0] == 0
assert abs(paths["004 RMSProp"][0][-1] - 0.47899) < 1e-5
assert paths["004 RMSProp"][1][-1] < 1e-4
assert halved_after(outer) == 4739
assert halved_after(inner) == 131
assert abs(climbing[-1] - 96.0952) < 1e-4
assert abs(inner[50] - 0.78208) < 1e-5
assert np.allclose(np.abs(jumping[400:]), 0.5, atol=2e-4)
assert np.isnan(old_hats[1:]).all()
assert abs(wrong[-1] + 6.39927) < 1e-5
assert abs(right[-1] - 0.92321) < 1e-5
assert np.allclose(first_adam, -0.1, atol=1e-6)
assert abs(plain[1] / right[1] - 3.16) < 0.01
