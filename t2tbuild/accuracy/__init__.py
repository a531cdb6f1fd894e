"""Predicted ImageNet accuracy: published trainings, the predictor fitted to them, and the validity of evidence."""

from t2tbuild.accuracy.predictor import Accuracy, predict_accuracy

__all__ = ["Accuracy", "predict_accuracy"]
