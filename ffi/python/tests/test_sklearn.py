"""scikit-learn: decisions by costs, scorers, class weights, and scikit-learn's estimator checks."""

import doctest
import pickle
import unittest
import warnings

import numpy
import rwwce

try:
    from sklearn import config_context
    from sklearn.datasets import load_breast_cancer, load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import make_scorer
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC
    from sklearn.tree import DecisionTreeClassifier
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.estimator_checks import check_estimator

    import rwwce.sklearn as of_sklearn
    from rwwce.sklearn import CostDecision, cost_scorer, decision_cost, least_cost
except ImportError as error:
    raise unittest.SkipTest("scikit-learn is not installed") from error

COSTS = numpy.array([[0.0, 1.0, 5.0], [20.0, 0.0, 1.0], [30.0, 2.0, 0.0]])


class Decisions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        x, y = load_wine(return_X_y=True)
        cls.x, cls.y = StandardScaler().fit_transform(x)[:, :2], y
        cls.names = numpy.array(["b", "c", "a"])[y]

    def test_the_class_of_least_expected_cost(self):
        decided = CostDecision(LogisticRegression(), COSTS).fit(self.x, self.y)
        p = LogisticRegression().fit(self.x, self.y).predict_proba(self.x)
        numpy.testing.assert_array_equal(decided.predict_proba(self.x), p)
        numpy.testing.assert_array_equal(decided.predict(self.x), (p @ COSTS).argmin(1))
        self.assertFalse((decided.predict(self.x) == p.argmax(1)).all())
        plain = CostDecision(LogisticRegression()).fit(self.x, self.y)
        numpy.testing.assert_array_equal(plain.predict(self.x), p.argmax(1))
        miss = CostDecision(LogisticRegression(), [1.0, 9.0, 1.0]).fit(self.x, self.y).predict(self.x)
        of_miss = numpy.array([1.0, 9.0, 1.0])[:, None] * (1 - numpy.eye(3))
        numpy.testing.assert_array_equal(miss, (p @ of_miss).argmin(1))

    def test_names_of_classes_are_in_their_order(self):
        # In the order of their names the classes are 2, 0, 1.
        order = [2, 0, 1]
        by_name = CostDecision(LogisticRegression(), COSTS[order][:, order]).fit(self.x, self.names).predict(self.x)
        by_number = CostDecision(LogisticRegression(), COSTS).fit(self.x, self.y).predict(self.x)
        numpy.testing.assert_array_equal(by_name, numpy.array(["b", "c", "a"])[by_number])

    def test_scores_as_logits(self):
        x, y = load_breast_cancer(return_X_y=True)
        x = StandardScaler().fit_transform(x)
        by_logits = CostDecision(LogisticRegression(), [20.0, 1.0], logits=True).fit(x, y)
        by_p = CostDecision(LogisticRegression(), [20.0, 1.0]).fit(x, y)
        numpy.testing.assert_array_equal(by_logits.predict(x), by_p.predict(x))
        numpy.testing.assert_allclose(by_logits.predict_proba(x), by_p.predict_proba(x), atol=1e-6)
        self.assertTrue(set(CostDecision(LinearSVC(), [20.0, 1.0], logits=True).fit(x, y).predict(x)) <= {0, 1})
        with self.assertRaises(AttributeError):
            CostDecision(LinearSVC(), [20.0, 1.0]).fit(x, y).predict(x)

    def test_pipelines_searches_and_scores(self):
        pipeline = make_pipeline(StandardScaler(), CostDecision(LogisticRegression()))
        search = GridSearchCV(
            pipeline,
            {"costdecision__costs": [None, COSTS], "costdecision__estimator__C": [0.1, 1.0]},
            scoring=cost_scorer(COSTS, decided=True),
        ).fit(self.x, self.y)
        self.assertIs(type(search.best_params_["costdecision__costs"]), numpy.ndarray)
        scores = cross_val_score(search.best_estimator_, self.x, self.y, scoring=cost_scorer(COSTS))
        self.assertTrue((scores <= 0).all())
        kept = pickle.loads(pickle.dumps(search.best_estimator_))
        numpy.testing.assert_array_equal(kept.predict(self.x), search.predict(self.x))

    def test_parameters_of_fit_reach_the_estimator(self):
        weight = numpy.random.default_rng(0).random(len(self.y))
        expected = LogisticRegression().fit(self.x, self.y, sample_weight=weight).predict_proba(self.x)
        found = CostDecision(LogisticRegression()).fit(self.x, self.y, sample_weight=weight)
        numpy.testing.assert_array_equal(found.predict_proba(self.x), expected)
        with config_context(enable_metadata_routing=True):
            routed = CostDecision(LogisticRegression().set_fit_request(sample_weight=True))
            numpy.testing.assert_array_equal(
                routed.fit(self.x, self.y, sample_weight=weight).predict_proba(self.x), expected
            )
            with self.assertRaises(Exception):
                CostDecision(LogisticRegression()).fit(self.x, self.y, sample_weight=weight)

    def test_what_scikit_learn_checks(self):
        estimators = LogisticRegression(), DecisionTreeClassifier(random_state=0)
        for decided in (*map(CostDecision, estimators), CostDecision(estimators[0], logits=True)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results = check_estimator(decided, on_fail=None, on_skip=None)
            failed = [(found["check_name"], found["exception"]) for found in results if found["status"] == "failed"]
            self.assertEqual(failed, [])
            self.assertGreater(sum(found["status"] == "passed" for found in results), 40)

    def test_errors(self):
        for costs in ([1.0, 2.0], [[0.0, 1.0], [1.0, 0.0]], [1.0, -1.0, 1.0], [1.0, numpy.nan, 1.0]):
            with self.subTest(costs), self.assertRaisesRegex(ValueError, "costs: expected"):
                CostDecision(LogisticRegression(), costs).fit(self.x, self.y)

        class Unsure(LogisticRegression):
            def predict_proba(self, X):
                return super().predict_proba(X) * numpy.nan

        with self.assertRaisesRegex(ValueError, "row 0 has no probabilities"):
            CostDecision(Unsure()).fit(self.x, self.y).predict(self.x)


class Scores(unittest.TestCase):
    def test_cost_of_decisions(self):
        rng = numpy.random.default_rng(0)
        y, said, weight = rng.integers(0, 3, 50), rng.integers(0, 3, 50), rng.random(50)
        names = numpy.array(["b", "c", "a"])
        each = COSTS[y, said]
        self.assertAlmostEqual(decision_cost(y, said, costs=COSTS), each.mean())
        weighted = (weight * each).sum() / weight.sum()
        self.assertAlmostEqual(decision_cost(y, said, costs=COSTS, sample_weight=weight), weighted)
        self.assertAlmostEqual(decision_cost(names[y], names[said], costs=COSTS, labels=names), each.mean())
        self.assertAlmostEqual(decision_cost(y, said), (y != said).mean())
        p = rng.dirichlet(numpy.ones(3), 50)
        self.assertAlmostEqual(least_cost(y, p, costs=COSTS), COSTS[y, (p @ COSTS).argmin(1)].mean())
        self.assertAlmostEqual(least_cost(y, numpy.log(p), costs=COSTS, logits=True), least_cost(y, p, costs=COSTS))
        y = y % 2
        two = [[0.0, 1.0], [7.0, 0.0]]
        self.assertEqual(least_cost(y, p[:, 0], costs=two), least_cost(y, numpy.stack([1 - p[:, 0], p[:, 0]], 1), costs=two))

    def test_scorers(self):
        x, y = load_breast_cancer(return_X_y=True)
        x = StandardScaler().fit_transform(x)[:, :3]
        names, costs = numpy.array(["malignant", "well"])[y], [20.0, 1.0]
        plain = LogisticRegression().fit(x, names)
        decided = CostDecision(LogisticRegression(), costs).fit(x, names)
        by_proba, by_predict = cost_scorer(costs), cost_scorer(costs, decided=True)
        self.assertAlmostEqual(by_proba(plain, x, names), by_predict(decided, x, names))
        self.assertLess(by_predict(plain, x, names), by_proba(plain, x, names))
        own = make_scorer(least_cost, response_method="predict_proba", greater_is_better=False, costs=costs)
        self.assertEqual(own(plain, x, names), by_proba(plain, x, names))
        weight = numpy.where(y == 0, 0.0, 1.0)
        false_alarms = (decided.predict(x) == "malignant")[y == 1].mean()
        self.assertAlmostEqual(by_proba(plain, x, names, sample_weight=weight), -false_alarms)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "labels: expected, since y_true has 1 classes and costs are of 2"):
            decision_cost([0, 0], [0, 1], costs=[1.0, 2.0])
        with self.assertRaisesRegex(ValueError, "y_pred: row 1 has .*, which is no class of"):
            decision_cost([0, 1], [0, 3], costs=[1.0, 2.0])


class Weights(unittest.TestCase):
    def test_schemes(self):
        y = numpy.array(["x", "x", "x", "y", "x", "z", "z"])
        classes = numpy.array(["x", "y", "z"])
        found = of_sklearn.compute_class_weight("balanced", classes=classes, y=y)
        numpy.testing.assert_allclose(found, compute_class_weight("balanced", classes=classes, y=y), rtol=1e-6)
        for scheme in ("inverse_frequency", "inverse_square_root", "median_frequency", "effective_number"):
            found = of_sklearn.compute_class_weight(scheme, classes=classes, y=y, normalisation="mean")
            expected = rwwce.class_weights([0, 0, 0, 1, 0, 2, 2], 3, scheme, normalisation="mean")
            numpy.testing.assert_array_equal(found, expected)
            each = of_sklearn.compute_sample_weight(scheme, y, normalisation="mean")
            numpy.testing.assert_array_equal(each, found[[0, 0, 0, 1, 0, 2, 2]])
        given = of_sklearn.compute_class_weight({"x": 1.0, "y": 2.0, "z": 3.0}, classes=classes, y=y)
        self.assertEqual(given.tolist(), [1.0, 2.0, 3.0])
        x = numpy.arange(7.0)[:, None]
        of_classes = dict(zip(classes, of_sklearn.compute_class_weight("balanced", classes=classes, y=y)))
        numpy.testing.assert_allclose(
            LogisticRegression(class_weight=of_classes).fit(x, y).predict_proba(x),
            LogisticRegression(class_weight="balanced").fit(x, y).predict_proba(x),
            atol=1e-3,
        )

    def test_errors(self):
        for options, message in [
            ({"class_weight": "even"}, "scheme: expected one of"),
            ({"class_weight": None, "beta": 0.9}, "beta: means nothing without a scheme"),
            ({"class_weight": "balanced", "sample_weight": [1.0, 2.0]}, "sample_weight: expected None"),
        ]:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                of_sklearn.compute_class_weight(classes=[0, 1], y=[0, 1], **options)
        with self.assertRaisesRegex(ValueError, "y: row 1 has .*, which is no class"):
            of_sklearn.compute_class_weight("balanced", classes=[0, 1], y=[0, 2])


def load_tests(loader, tests, pattern):
    tests.addTests(doctest.DocTestSuite(of_sklearn))
    return tests


if __name__ == "__main__":
    unittest.main()
