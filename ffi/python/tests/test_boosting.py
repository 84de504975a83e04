"""Objectives and metrics of boosted trees, with XGBoost and LightGBM if they are installed."""

import copy
import doctest
import pickle
import unittest
import warnings

import numpy
import rwwce.boosting as boosting

try:
    import lightgbm
    import xgboost
    from sklearn.datasets import load_breast_cancer, load_wine
except ImportError:
    xgboost = None

MISS = numpy.array([1.0, 4.0, 2.0])
MISLABEL = numpy.array([[0.0, 1.0, 0.5], [3.0, 0.0, 2.0], [0.0, 0.3, 0.0]])


def textbook(z, y, s, miss, mislabel, smoothing=0.0):
    """Row losses by the textbook formulas, in float64."""
    if z.ndim == 1:
        z = numpy.stack([0 * z, z], 1)
    p = numpy.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rows, classes = numpy.arange(len(y)), z.shape[1]
    losses = -(1 - smoothing) * miss[y] * numpy.log(p[rows, y])
    losses = losses - smoothing / classes * (miss * numpy.log(p)).sum(1)
    other = 1 - p
    other[rows, y] = 1.0
    return s * (losses - (mislabel[y] * numpy.log(other)).sum(1))


def differences(loss, z):
    """First and second derivatives of the sum of `loss` with respect to each element of z."""
    step, first, second = 1e-4, numpy.empty_like(z), numpy.empty_like(z)
    for place in numpy.ndindex(z.shape):
        moved = numpy.zeros_like(z)
        moved[place] = step
        above, here, below = (loss(z + moved).sum(), loss(z).sum(), loss(z - moved).sum())
        first[place], second[place] = (above - below) / (2 * step), (above - 2 * here + below) / step**2
    return first, second


class DataSet:
    """Stands for the data sets that both libraries pass with the predictions."""

    def __init__(self, labels, weights=None):
        self.labels, self.weights = labels, weights

    def get_label(self):
        return self.labels

    def get_weight(self):
        return self.weights


class Objectives(unittest.TestCase):
    def setUp(self):
        self.rng = rng = numpy.random.default_rng(0)
        self.z, self.s = rng.standard_normal((8, 3)) * 2, rng.random(8) + 0.2
        self.y = numpy.array([0, 1, 2, 0, 1, 2, 1, 1])

    def close(self, found, expected, tolerance):
        self.assertEqual(found.shape, expected.shape)
        self.assertEqual(found.dtype, numpy.float32)
        numpy.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)

    def test_derivatives_of_classes(self):
        for smoothing in (0.0, 0.2):
            objective = boosting.xgboost_objective(MISS, MISLABEL, label_smoothing=smoothing)
            gradient, curvature = objective(self.z, DataSet(self.y.astype(numpy.float32), self.s))
            loss = lambda z: textbook(z, self.y, self.s, MISS, MISLABEL, smoothing)
            first, second = differences(loss, self.z)
            self.close(gradient, first, 1e-5)
            self.assertTrue((curvature >= 0).all())
            self.assertTrue((curvature >= second - 1e-5).all())

    def test_the_curvature_bounds_the_whole_hessian(self):
        objective = boosting.xgboost_objective(MISS, MISLABEL)
        curvature = objective(self.z, DataSet(self.y, self.s))[1]
        step, eye = 1e-4, numpy.eye(3)
        for row in range(8):
            loss = lambda z: textbook(z[None], self.y[row : row + 1], self.s[row], MISS, MISLABEL)[0]
            z = self.z[row]
            hessian = [
                [
                    (loss(z + step * (a + b)) - loss(z + step * (a - b)) - loss(z - step * (a - b)) + loss(z - step * (a + b)))
                    / (4 * step**2)
                    for a in eye
                ]
                for b in eye
            ]
            self.assertGreater(numpy.linalg.eigvalsh(numpy.diag(curvature[row]) - hessian).min(), -1e-5)

    def test_derivatives_of_two_classes(self):
        z, y = self.z[:, 0], self.y % 2
        for smoothing in (0.0, 0.2):
            objective = boosting.lightgbm_objective(MISS[:2], MISLABEL[:2, :2], label_smoothing=smoothing)
            loss = lambda z: textbook(z, y, self.s, MISS[:2], MISLABEL[:2, :2], smoothing)
            first, second = differences(loss, z)
            for shape in [(8,), (8, 1)]:
                gradient, curvature = objective(z.reshape(shape), DataSet(y, self.s))
                self.close(gradient, first.reshape(shape), 1e-5)
                self.close(curvature, second.reshape(shape), 1e-5)
                self.assertTrue(gradient.flags.c_contiguous and curvature.flags.c_contiguous)

    def test_faces_are_the_same(self):
        objective = boosting.xgboost_objective(MISS, MISLABEL)
        native = objective(self.z, DataSet(self.y, self.s))
        for weighted in (objective(self.y, self.z, self.s), objective(self.y, self.z, sample_weight=self.s)):
            for found, expected in zip(weighted, native):
                numpy.testing.assert_array_equal(found, expected)
        alone = objective(self.z, DataSet(self.y, numpy.empty(0)))
        numpy.testing.assert_allclose(native[0], self.s[:, None] * alone[0], rtol=1e-5, atol=1e-7)

    def test_margins_of_any_size(self):
        z = numpy.array([[1e4, -1e4], [-1e4, 1e4], [0.0, 1e-30]])
        for found in boosting.xgboost_objective([1, 20])(z, DataSet([1, 1, 0])):
            self.assertTrue(numpy.isfinite(found).all())

    def test_copies(self):
        objective = boosting.xgboost_objective(MISS, MISLABEL)
        for other in (copy.deepcopy(objective), pickle.loads(pickle.dumps(objective))):
            numpy.testing.assert_array_equal(other(self.y, self.z)[0], objective(self.y, self.z)[0])

    def test_errors(self):
        objective = boosting.xgboost_objective([1, 2, 3])
        for error, message, first, second in [
            (ValueError, r"predictions: .* found \(24,\); XGBoost before 2.1", self.y, self.z.ravel()),
            (ValueError, r"predictions: expected shape \(8,\) or \(8, C\), found \(7, 3\)", self.y, self.z[1:]),
            (IndexError, "labels: row 1 has label 3, expected 0 to 2", [0, 3], self.z[:2]),
            (IndexError, "labels: row 0 has label -100", [-100, 0], self.z[:2]),
            (ValueError, "labels: row 1 has 0.5, expected a class index", [0, 0.5], self.z[:2]),
            (ValueError, "labels: row 0 has nan, expected a class index", [numpy.nan, 0], self.z[:2]),
            (ValueError, "class weights", [0, 1], self.z[:2, 0]),
        ]:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                objective(first, second)
        with self.assertRaisesRegex(ValueError, "sample_weight: expected weights of at least 0"):
            objective(self.y, self.z, -self.s)
        with self.assertRaisesRegex(ValueError, "of: expected 'cost' or 'loss', found 'auc'"):
            boosting.lightgbm_metric(of="auc")

    def test_probabilities(self):
        p = numpy.exp(self.z) / numpy.exp(self.z).sum(1, keepdims=True)
        self.close(boosting.lightgbm_objective().probabilities(self.z), p, 1e-6)
        two = 1 / (1 + numpy.exp(-self.z[:, :1]))
        for margins in (self.z[:, 0], self.z[:, :1]):
            self.close(boosting.lightgbm_objective().probabilities(margins), numpy.hstack([1 - two, two]), 1e-6)


class Metrics(unittest.TestCase):
    def test_cost_and_loss(self):
        rng = numpy.random.default_rng(1)
        z, s, y = rng.standard_normal((40, 3)), rng.random(40), rng.integers(0, 3, 40)
        costs = MISS[:, None] * (1 - numpy.eye(3)) + MISLABEL
        p = numpy.exp(z) / numpy.exp(z).sum(1, keepdims=True)
        cost = (s * costs[y, (p @ costs).argmin(1)]).sum() / s.sum()
        loss = textbook(z, y, s, MISS, MISLABEL).sum() / s.sum()
        for of, expected in (("cost", cost), ("loss", loss)):
            name = f"real_world_{of}"
            for library, make in (("xgboost", boosting.xgboost_metric), ("lightgbm", boosting.lightgbm_metric)):
                metric, of_p = make(MISS, MISLABEL, of=of), make(MISS, MISLABEL, of=of, probabilities=True)
                native, estimator = metric(z, DataSet(y, s)), metric(y, z, s)
                self.assertEqual(metric.__name__, name)
                self.assertAlmostEqual(native[1], expected, 5)
                self.assertAlmostEqual(of_p(p, DataSet(y, s))[1], expected, 5)
                if library == "xgboost":
                    self.assertEqual((native[0], estimator), (name, native[1]))
                else:
                    self.assertEqual((native[0], native[2], estimator), (name, False, native))

    def test_two_classes(self):
        y, z = numpy.array([0, 1, 1, 0]), numpy.array([-2.0, -2.0, -9.0, -9.0])
        p = 1 / (1 + numpy.exp(-z))
        for metric, predicted in [
            (boosting.xgboost_metric([1, 20]), z),
            (boosting.xgboost_metric([1, 20]), z[:, None]),
            (boosting.xgboost_metric([1, 20], probabilities=True), p),
        ]:
            self.assertEqual(metric(y, predicted), (1 + 20) / 4)


@unittest.skipIf(xgboost is None, "XGBoost, LightGBM and scikit-learn are not installed")
class Trees(unittest.TestCase):
    """Without costs the trees are those of the libraries' own objectives."""

    def setUp(self):
        warnings.simplefilter("ignore")
        self.data = [(*load_wine(return_X_y=True), 3), (*load_breast_cancer(return_X_y=True), 2)]
        self.rng = numpy.random.default_rng(0)

    def close(self, found, expected):
        self.assertEqual(found.shape, expected.shape)
        numpy.testing.assert_allclose(found, expected, atol=1e-5)

    def test_xgboost(self):
        for x, y, classes in self.data:
            weights = self.rng.random(len(y)) + 0.2
            own = {"objective": "multi:softprob", "num_class": 3} if classes == 3 else {"objective": "binary:logistic"}
            options = {**own, "base_score": 0.5, "max_depth": 3, "nthread": 1}
            for weight in (None, weights):
                data, seen = xgboost.DMatrix(x, y, weight=weight), {}
                expected = xgboost.train(options, data, 10).predict(data)
                found = xgboost.train(
                    {**options, "eval_metric": "mlogloss" if classes == 3 else "logloss"},
                    data,
                    10,
                    obj=boosting.xgboost_objective(),
                    custom_metric=boosting.xgboost_metric(of="loss"),
                    evals=[(data, "train")],
                    evals_result=seen,
                    verbose_eval=False,
                )
                self.close(found.predict(data), expected)
                logloss, loss = (values[-1] for values in seen["train"].values())
                self.assertAlmostEqual(logloss, loss, 4)

    def test_the_estimator_of_xgboost(self):
        for x, y, _ in self.data:
            weight = self.rng.random(len(y)) + 0.2
            options = {"n_estimators": 10, "max_depth": 3, "base_score": 0.5, "n_jobs": 1}
            expected = xgboost.XGBClassifier(**options).fit(x, y, sample_weight=weight)
            metric = boosting.xgboost_metric()
            found = xgboost.XGBClassifier(**options, objective=boosting.xgboost_objective(), eval_metric=metric)
            found.fit(x, y, sample_weight=weight, eval_set=[(x, y)], sample_weight_eval_set=[weight], verbose=False)
            self.close(found.predict_proba(x), expected.predict_proba(x))
            wrong = numpy.average(found.predict(x) != y, weights=weight)
            self.assertAlmostEqual(found.evals_result()["validation_0"]["real_world_cost"][-1], wrong, 5)

    def test_lightgbm(self):
        for x, y, classes in self.data:
            weight = self.rng.random(len(y)) + 0.2
            options = {"verbosity": -1, "boost_from_average": False, "num_threads": 1, "metric": "None"}
            # Curvatures that differ by a constant factor lead to the same trees.
            options = {**options, "min_sum_hessian_in_leaf": 1e-9, "lambda_l2": 0.0}
            own = {"objective": "multiclass", "num_class": 3} if classes == 3 else {"objective": "binary"}
            rate = 0.1 * 2 / (classes / (classes - 1)) if classes == 3 else 0.1
            expected = lightgbm.train({**options, **own}, lightgbm.Dataset(x, y, weight=weight), 10)
            data, seen = lightgbm.Dataset(x, y, weight=weight), {}
            found = lightgbm.train(
                {**options, **own, "objective": boosting.lightgbm_objective(), "learning_rate": rate},
                data,
                10,
                valid_sets=[data],
                feval=[boosting.lightgbm_metric(), boosting.lightgbm_metric(of="loss")],
                callbacks=[lightgbm.record_evaluation(seen)],
            )
            self.close(found.predict(x), expected.predict(x, raw_score=True))
            p = boosting.lightgbm_objective().probabilities(found.predict(x))
            self.assertAlmostEqual(seen["training"]["real_world_cost"][-1], numpy.average(p.argmax(1) != y, weights=weight))
            loss = numpy.average(-numpy.log(p[numpy.arange(len(y)), y]), weights=weight)
            self.assertAlmostEqual(seen["training"]["real_world_loss"][-1], loss, 5)

    def test_the_estimator_of_lightgbm(self):
        for x, y, classes in self.data:
            weight, names = self.rng.random(len(y)) + 0.2, numpy.array(["one", "three", "two"])
            objective = boosting.lightgbm_objective([1.0, 4.0, 2.0][:classes])
            options = {"n_estimators": 10, "verbose": -1, "n_jobs": 1}
            estimator = lightgbm.LGBMClassifier(objective=objective, **options).fit(x, names[y], sample_weight=weight)
            native = lightgbm.train(
                {"objective": objective, "num_class": classes if classes > 2 else 1, "verbosity": -1, "num_threads": 1},
                lightgbm.Dataset(x, y, weight=weight),
                10,
            )
            self.close(estimator.predict_proba(x, raw_score=True), native.predict(x))

    def test_costs_move_decisions(self):
        x, y, _ = self.data[1]
        predicted = [
            xgboost.XGBClassifier(n_estimators=5, max_depth=2, n_jobs=1, objective=boosting.xgboost_objective(costs))
            .fit(x, y)
            .predict(x)
            for costs in (None, [20.0, 1.0])
        ]
        missed = [int(((found == 1) & (y == 0)).sum()) for found in predicted]
        self.assertLess(missed[1], missed[0])


def load_tests(loader, tests, pattern):
    tests.addTests(doctest.DocTestSuite(boosting))
    return tests


if __name__ == "__main__":
    unittest.main()
